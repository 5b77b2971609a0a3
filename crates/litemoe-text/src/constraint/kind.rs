use serde_json::Value;

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
    /// Tool calls in the [format](crate::Tokenizer::call_format) of the chat template.
    Calls(CallChoice),
}

/// Tool calls that an answer may make or must make.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallChoice {
    /// The tools that may be called.
    pub tools: Vec<CallTool>,
    /// Whether an answer may have several calls.
    pub is_parallel: bool,
    /// Whether an answer may have content: instead of calls, or before them.
    pub may_answer: bool,
}

/// A tool that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct CallTool {
    /// Name of the tool.
    pub name: String,
    /// JSON schema of its parameters, of an object; null for any object.
    pub parameters: Value,
    /// Whether the arguments must follow the schema, or the grammar is refused. Otherwise they may be any object if the
    /// schema has no grammar.
    pub is_strict: bool,
}
