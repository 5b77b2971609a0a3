use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;
use serde_json::Value;

use super::{CallChoice, Constraint, GrammarError};
use crate::Tokenizer;

/// What a constrained text must be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum GrammarKind {
    /// A JSON object.
    JsonObject,
    /// JSON that a JSON schema accepts. Names of objects come in the schema's order; `\u` escapes are not used, and are
    /// not needed.
    JsonSchema(Value),
    /// One of these strings.
    Choice(Vec<String>),
    /// Text that a regular expression matches as a whole, in the syntax of Rust's crate `regex`.
    Regex(String),
    /// Tool calls in the [format](Tokenizer::call_format) of the chat template.
    Calls(CallChoice),
}

/// Compiled grammar of constrained texts. Several texts share it.
pub struct Grammar {
    start: Matcher,
    not_first: Arc<[u32]>,
}

impl Grammar {
    pub(super) fn new(start: Matcher, not_first: Arc<[u32]>) -> Self {
        Self { start, not_first }
    }

    /// The state at the start of an answer.
    pub fn constraint(&self) -> Constraint {
        Constraint::new(self.start.clone(), self.not_first.clone())
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Compiles a grammar of answers. The text of an [`Answer`](crate::Answer) is what the grammar says: what the chat
    /// template inserts before an answer may come first, as always.
    ///
    /// The first call prepares the vocabulary, which takes some seconds for a large one.
    ///
    /// # Errors
    /// [`GrammarError`]
    pub fn grammar(&self, kind: &GrammarKind) -> Result<Grammar, GrammarError> {
        self.grammar_compiler()?.compile(kind, self)
    }
}
