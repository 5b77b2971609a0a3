//! Constrained decoding: grammars over the tokenizer's vocabulary.

mod calls;
mod compiler;
mod error;
mod grammar;
mod json;
mod kind;
mod lark;
mod one_of;
mod schema;
mod schema_values;
mod state;
mod vocabulary;
mod words;

pub(crate) use compiler::GrammarCompiler;
pub use error::GrammarError;
pub use grammar::Grammar;
pub use kind::{CallChoice, CallTool, GrammarKind};
pub(crate) use lark::Part;
pub use state::Constraint;
