use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;
use serde_json::Value;

use super::compiler::GrammarCompiler;
use super::{CallChoice, Constraint, GrammarError, GrammarKind};
use crate::Tokenizer;

/// Compiled grammar of constrained texts. Several texts share it.
pub struct Grammar {
    start: Matcher,
    not_first: Arc<[u32]>,
}

impl Grammar {
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
        let compiler = self.grammar_compiler.get_or_init(|| {
            GrammarCompiler::new(&self.vocabulary()?, self.parts(&self.assistant_lead))
        });
        let compiler = compiler.as_ref().map_err(Clone::clone)?;
        let compile = |kind: &GrammarKind| {
            compiler.compile(kind, self.call_format().map(|f| &**f), &|text| self.parts(text))
        };
        let start = match (compile(kind), kind) {
            // A schema that is not strict may be at fault.
            (Err(GrammarError::Refused { .. }), GrammarKind::Calls(choice)) => {
                compile(&GrammarKind::Calls(relaxed(choice)))?
            }
            (start, _) => start?,
        };
        Ok(Grammar { start, not_first: compiler.not_first() })
    }
}

/// The same with any object for the arguments of tools that are not strict.
fn relaxed(choice: &CallChoice) -> CallChoice {
    let mut choice = choice.clone();
    for tool in choice.tools.iter_mut().filter(|tool| !tool.is_strict) {
        tool.parameters = Value::Null;
    }
    choice
}
