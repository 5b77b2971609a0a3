use std::fmt;
use std::sync::Arc;
use std::thread;

use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::{JsonCompileOptions, Matcher, ParserFactory, regex_to_lark};
use serde_json::{Map, Value};

use super::lark::{Part, literal, sequence};
use super::schema_values::is_closed_regex;
use super::vocabulary::Vocabulary;
use super::{Grammar, GrammarError, GrammarKind, calls, schema};
use crate::Tokenizer;

/// Stack of the thread that compiles: the library recurses into nested schemas and references.
const STACK: usize = 256 << 20;

/// Maximum number of choices.
const MAX_CHOICES: usize = 10_000;

/// Maximum bytes of a choice, and of a regular expression.
const MAX_TEXT: usize = 64 << 10;

/// Maximum bytes of the library's messages that are passed on.
const MAX_REASON: usize = 300;

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

/// White space between JSON's tokens, at most.
const JSON_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,64}";

/// JSON's escapes except `\u`: each name has one spelling then, so that none is written twice in an object.
const JSON_ESCAPES: &str = "nrbtf\\\"";

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

    pub(crate) fn compile(
        &self,
        kind: &GrammarKind,
        tokenizer: &Tokenizer,
    ) -> Result<Grammar, GrammarError> {
        let source = match kind {
            GrammarKind::JsonObject => self.json(&Value::from_iter([("type", "object")]))?,
            GrammarKind::JsonSchema(schema) => self.json(schema)?,
            GrammarKind::Choice(choices) => self.choices(choices)?,
            GrammarKind::Regex(regex) => self.regex(regex)?,
            GrammarKind::Calls(choice) => {
                calls::grammar(choice, tokenizer, &self.lead_rules(false))?
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
        Ok(Grammar::new(matcher, self.not_first.clone()))
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

/// A grammar of JSON by a schema, under a name.
pub(super) fn json_grammar(name: &str, schema: &Value) -> Result<GrammarWithLexer, GrammarError> {
    let mut schema = match schema::checked(schema)? {
        Value::Bool(true) => Value::Object(Map::new()),
        Value::Bool(false) => {
            let reason = "the JSON schema `false` accepts nothing".to_owned();
            return Err(GrammarError::Refused { reason });
        }
        schema => schema,
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(JSON_SPACE.to_owned()),
        json_allowed_escapes: Some(JSON_ESCAPES.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    let grammar = GrammarWithLexer::from_json_schema(schema);
    Ok(GrammarWithLexer { name: Some(name.to_owned()), ..grammar })
}

fn text_of(part: &Part) -> Option<&str> {
    match part {
        Part::Text(text) => Some(text),
        Part::Token(_) => None,
    }
}

/// Beginning of the library's message, on one line.
pub(super) fn one_line(error: &dyn fmt::Display) -> String {
    let words = error.to_string();
    let words = words.split_whitespace().filter(|word| *word != "<non-verbose/>");
    let mut line = words.collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(MAX_REASON));
    line
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").field("lead", &self.lead).finish_non_exhaustive()
    }
}
