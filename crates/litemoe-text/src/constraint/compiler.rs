use std::fmt;
use std::sync::Arc;
use std::thread;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory, regex_to_lark};
use serde_json::Value;

use super::error::one_line;
use super::json::json_grammar;
use super::lark::{Part, literal, sequence};
use super::schema_values::is_closed_regex;
use super::vocabulary::Vocabulary;
use super::{GrammarError, GrammarKind, calls};
use crate::calls::CallFormat;

/// Stack of the thread that compiles: the library recurses into nested schemas and references.
const STACK: usize = 256 << 20;

/// Maximum number of choices.
const MAX_CHOICES: usize = 10_000;

/// Maximum bytes of a choice, and of a regular expression.
const MAX_TEXT: usize = 64 << 10;

/// Bounds of the library's work: states of about 1 KiB, and per step some milliseconds.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: 50_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

/// Characters with which JSON may begin.
const JSON_STARTS: &str = "{[\"-0123456789tfn";

/// Makes grammars for a vocabulary.
pub(crate) struct GrammarCompiler {
    factory: ParserFactory,
    /// What the chat template inserts before an answer.
    lead: Vec<Part>,
    strips_space: bool,
    not_first: Arc<[u32]>,
}

impl GrammarCompiler {
    pub(crate) fn new(vocabulary: &Vocabulary, lead: Vec<Part>) -> Result<Self, GrammarError> {
        let broken =
            |error: &dyn fmt::Display| GrammarError::Vocabulary { reason: one_line(error) };
        let mut factory =
            ParserFactory::new_simple(&vocabulary.trie()?).map_err(|error| broken(&error))?;
        factory.quiet();
        *factory.limits_mut() = LIMITS;
        let (strips_space, not_first) = (vocabulary.strips_space, vocabulary.not_first.clone());
        Ok(Self { factory, lead, strips_space, not_first: not_first.into() })
    }

    /// Tokens that may not come first.
    pub(crate) fn not_first(&self) -> Arc<[u32]> {
        self.not_first.clone()
    }

    /// The state at the start of an answer. `format` is that of calls; `parts` tells special tokens from text.
    pub(crate) fn compile(
        &self,
        kind: &GrammarKind,
        format: Option<&CallFormat>,
        parts: &dyn Fn(&str) -> Vec<Part>,
    ) -> Result<Matcher, GrammarError> {
        let source = match kind {
            GrammarKind::JsonObject => self.json(&Value::from_iter([("type", "object")]))?,
            GrammarKind::JsonSchema(schema) => self.json(schema)?,
            GrammarKind::Choice(choices) => self.choices(choices)?,
            GrammarKind::Regex(regex) => self.regex(regex)?,
            GrammarKind::Calls(choice) => {
                let format = format.ok_or(GrammarError::NoCallFormat)?;
                calls::grammar(choice, format, parts, &self.lead_rules(false))?
            }
        };
        let failed = |reason: &str| GrammarError::Refused { reason: reason.to_owned() };
        let work = || {
            let parser =
                self.factory.create_parser(source).map_err(|error| failed(&one_line(&error)))?;
            let matcher = Matcher::new(Ok(parser));
            // An empty grammar fails here.
            let mask = matcher.clone().compute_mask_or_eos();
            mask.map_err(|error| failed(&format!("nothing satisfies it: {}", one_line(&error))))?;
            Ok(matcher)
        };
        let matcher = thread::scope(|scope| {
            let thread = thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
            let thread =
                thread.spawn_scoped(scope, work).map_err(|error| failed(&error.to_string()))?;
            thread.join().map_err(|_| failed("the library panics on it"))?
        })?;
        Ok(matcher)
    }

    fn json(&self, schema: &Value) -> Result<TopLevelGrammar, GrammarError> {
        let starts_like_json = match self.lead.first() {
            Some(Part::Text(text)) => text.starts_with(|c| JSON_STARTS.contains(c)),
            _ => false,
        };
        // JSON that begins like the inserted text could lose it again.
        let rules = self.lead_rules(starts_like_json);
        let mut grammar = TopLevelGrammar::from_lark(format!("start: before @json\n{rules}"));
        grammar.grammars.push(json_grammar("json", schema)?);
        Ok(grammar)
    }

    /// The rule `before`: what may or, if `required`, must come before an answer.
    fn lead_rules(&self, required: bool) -> String {
        let space = if self.strips_space { "\" \"?" } else { "" };
        let lead = match self.lead.is_empty() {
            true => String::new(),
            false => format!("( {} ){}", sequence(&self.lead), if required { "" } else { "?" }),
        };
        match (space, &*lead) {
            ("", "") => "before: \"\"\n".to_owned(),
            _ => format!("before: {space} {lead}\n"),
        }
    }

    fn choices(&self, choices: &[String]) -> Result<TopLevelGrammar, GrammarError> {
        let too_large = |what, max| GrammarError::TooLarge { what, max };
        if choices.is_empty() {
            return Err(GrammarError::Refused { reason: "there is no choice".to_owned() });
        }
        if choices.len() > MAX_CHOICES {
            return Err(too_large("choices", MAX_CHOICES));
        }
        if choices.iter().any(|choice| choice.len() > MAX_TEXT) {
            return Err(too_large("bytes in a choice", MAX_TEXT));
        }
        let choices: Vec<_> = choices.iter().map(|choice| literal(choice)).collect();
        Ok(self.terminal(&choices.join(" | ")))
    }

    fn regex(&self, regex: &str) -> Result<TopLevelGrammar, GrammarError> {
        if regex.len() > MAX_TEXT {
            let what = "bytes in a regular expression";
            return Err(GrammarError::TooLarge { what, max: MAX_TEXT });
        }
        if regex.is_empty() || !is_closed_regex(regex) {
            let reason = "the regular expression is empty or ends inside of an escape".to_owned();
            return Err(GrammarError::Refused { reason });
        }
        Ok(self.terminal(&format!("/(?:{})/", regex_to_lark(regex, ""))))
    }

    /// Answers whose text is `body`, a terminal. Before an answer, decoding removes a space, and then the inserted text is
    /// removed: an answer that begins so itself must have it twice.
    fn terminal(&self, body: &str) -> TopLevelGrammar {
        let mut rules = format!("ANY: /(?s:.*)/\nBODY: {body}\n");
        let printed: String = self.lead.iter().filter_map(text_of).collect();
        let is_text = self.lead.iter().all(|part| matches!(part, Part::Text(_)));
        rules += &match (printed.is_empty(), is_text) {
            (true, _) => "LED: BODY\n".to_owned(),
            (false, true) => {
                let lead = literal(&printed);
                format!("LED: {lead} BODY | BODY & ~( {lead} ANY )\n")
            }
            (false, false) => format!("LED: BODY & ~( {} ANY )\n", literal(&printed)),
        };
        rules += match self.strips_space {
            true => "TEXT: \" \" LED | LED & ~( \" \" ANY )\n",
            false => "TEXT: LED\n",
        };
        let after_tokens = match is_text {
            true => String::new(),
            false => format!(" | {} BODY", sequence(&self.lead)),
        };
        TopLevelGrammar::from_lark(format!("start: TEXT{after_tokens}\n{rules}"))
    }
}

fn text_of(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(text),
        Part::Token(_) => None,
    }
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").field("lead", &self.lead).finish_non_exhaustive()
    }
}
