use std::sync::Arc;

use axum::extract;
use litemoe_text::Tokenizer;

use crate::ServerOptions;
use crate::apps::Apps;
use crate::engine::Engine;
use crate::lanes::Lanes;
use crate::limits::Context;
use crate::models::Models;
use crate::proxies::ProxyDesk;
use crate::quota::Quota;
use crate::slots::Slots;

/// State of the handlers.
pub(crate) type Shared = extract::State<Arc<State>>;

/// State common to all requests.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) models: Models,
    /// `None` without a registry of apps.
    pub(crate) apps: Option<Arc<Apps>>,
    pub(crate) engine: Engine,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Bytes of request bodies in memory.
    pub(crate) quota: Quota,
    pub(crate) lanes: Lanes,
    /// Uploads that are being received.
    pub(crate) uploads: Slots,
    /// `None` if no proxies are made.
    pub(crate) desk: Option<ProxyDesk>,
    pub(crate) options: ServerOptions,
    /// Size of the model's vocabulary.
    pub(crate) vocab: usize,
    pub(crate) context: Context,
    /// Start time of the server, in seconds since 1970.
    pub(crate) created: u64,
}
