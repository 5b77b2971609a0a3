use std::sync::Arc;

use axum::extract;
use litemoe_text::Tokenizer;

use crate::ServerOptions;
use crate::engine::Engine;
use crate::registry::Registry;

/// State of the handlers.
pub(crate) type Shared = extract::State<Arc<State>>;

/// State common to all requests.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) options: ServerOptions,
    /// Size of the model's vocabulary.
    pub(crate) vocab: usize,
    /// Maximum tokens of a row.
    pub(crate) max_tokens: usize,
    /// Start time of the server, in seconds since 1970.
    pub(crate) created: u64,
}
