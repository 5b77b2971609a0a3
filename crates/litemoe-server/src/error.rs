use std::io;

use litemoe_core::RouterBiasError;
use thiserror::Error;

/// Errors of creating and running a server.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ServerError {
    #[error("two models are called `{name}`")]
    SameName { name: String },
    #[error("a model's name is empty")]
    NoName,
    #[error("the tokenizer has {tokenizer} tokens, but the model only {model}")]
    Vocabulary { tokenizer: usize, model: usize },
    #[error("the adapter `{name}` does not fit the model: {source}")]
    Routing { name: String, source: RouterBiasError },
    #[error("cannot start the engine's thread: {reason}")]
    Thread { reason: io::Error },
    #[error("cannot serve: {reason}")]
    Serve { reason: io::Error },
}
