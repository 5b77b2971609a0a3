use std::sync::Arc;

use litemoe_text::Tokenizer;

use crate::ServerOptions;
use crate::engine::Engine;
use crate::registry::Registry;

/// What requests are answered from.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) options: ServerOptions,
    /// Size of the model's vocabulary.
    pub(crate) vocab: usize,
    /// The longest row the model accepts.
    pub(crate) max_tokens: usize,
    /// When the models came to be served, in seconds since 1970.
    pub(crate) created: u64,
}
