//! Constrained decoding: grammars over the tokenizer's vocabulary.

mod calls;
mod compiler;
mod error;
mod grammar;
mod lark;
mod one_of;
mod schema;
mod schema_values;
mod state;
mod vocabulary;

pub use calls::CallChoice;
pub(crate) use compiler::GrammarCompiler;
pub use error::GrammarError;
pub use grammar::{Grammar, GrammarKind};
pub(crate) use lark::Part;
pub use state::Constraint;
pub(crate) use vocabulary::Vocabulary;
