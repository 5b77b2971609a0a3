use std::io;
use std::path::PathBuf;

use litemoe_core::{ConstraintError, GenerationError, NotFiniteLogit};
use thiserror::Error;

use crate::RowError;

/// Errors of reading, rendering and tokenizing text.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum TextError {
    #[error("cannot read {}: {reason}", file.display())]
    Read { file: PathBuf, reason: io::Error },
    #[error("{}: {reason}", file.display())]
    Malformed { file: PathBuf, reason: String },
    #[error("{}, line {line}: {error}", file.display())]
    Row { file: PathBuf, line: usize, error: RowError },
    #[error("{} has no rows: it looks like {looks}; {advice}", file.display())]
    NotRows { file: PathBuf, looks: &'static str, advice: &'static str },
    #[error("{} has no rows", file.display())]
    NoRows { file: PathBuf },
    #[error(
        "{} has several chat templates and none is called `default`: {}",
        file.display(), names.join(", ")
    )]
    WhichTemplate { file: PathBuf, names: Vec<String> },
    #[error("{}: a tokenizer {class} is not supported", dir.display())]
    TokenizerClass { dir: PathBuf, class: String },
    #[error("the chat template cannot be compiled: {reason}")]
    TemplateSyntax { reason: String },
    #[error("the chat template has {bytes} bytes, more than {max_bytes}")]
    TemplateTooLarge { bytes: usize, max_bytes: usize },
    #[error("the chat template refuses these messages: {message}")]
    TemplateRaised { message: String },
    #[error("the chat template fails: {reason}")]
    TemplateFailed { reason: String },
    #[error("the chat template does more work than {fuel} steps")]
    TemplateTooLong { fuel: u64 },
    #[error("the chat template writes more than {max_bytes} bytes")]
    TemplateTooMuch { max_bytes: usize },
    #[error("the chat template prints nothing of the {what}, so they would have no effect")]
    NotRendered { what: &'static str },
    #[error("the model has no chat template, so it takes one user message, not {given}")]
    NoTemplate { given: String },
    #[error(
        "the chat template renders the prompt as {prompt:?}, \
         which is not how it begins the conversation: {whole:?}"
    )]
    NotAPrefix { prompt: String, whole: String },
    #[error("the chat template does not show the assistant's message: {whole:?}")]
    NoCompletion { whole: String },
    #[error(
        "the chat template marks {blocks} generations for {turns} assistant messages, so the loss can cover all or \
         none of them"
    )]
    GenerationBlocks { blocks: usize, turns: usize },
    #[error("the text has the character {character:?}, which marks generations")]
    MarkInText { character: char },
    #[error("an encoder–decoder takes a prompt and one completion, not {given}")]
    NotAPair { given: &'static str },
    #[error("running text has no prompt")]
    NoPrompt,
    #[error("nothing tells where a completion ends: {reason}")]
    NoEndToken { reason: String },
    #[error("the token `{token}` that the configuration names is not in the vocabulary")]
    UnknownToken { token: String },
    #[error("cannot tokenize: {reason}")]
    Encode { reason: String },
    #[error("cannot turn tokens into text: {reason}")]
    Decode { reason: String },
    #[error(transparent)]
    Logits(#[from] NotFiniteLogit),
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    #[error("row {row}: {error}")]
    InRow { row: usize, error: Box<TextError> },
}

impl From<GenerationError> for TextError {
    fn from(error: GenerationError) -> Self {
        match error {
            GenerationError::NotFinite(logit) => Self::Logits(logit),
            GenerationError::Constraint(error) => Self::Constraint(error),
        }
    }
}
