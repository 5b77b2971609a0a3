use std::future::Future;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use litemoe_core::{CausalLm, MountedAdapter};
use litemoe_text::Tokenizer;
use tokio::net::TcpListener;

use crate::engine::Engine;
use crate::registry::Registry;
use crate::state::State;
use crate::{ServerError, ServerOptions, api};

/// One foundation and its adapters, answering over HTTP.
#[derive(Debug)]
pub struct Server {
    state: State,
}

impl Server {
    /// Serves a foundation under a name. The model moves to a thread of its own.
    ///
    /// # Errors
    /// When the name is empty, the tokenizer knows more tokens than the model, or the thread cannot be started.
    pub fn new<M>(
        name: impl Into<String>,
        model: M,
        tokenizer: Tokenizer,
        options: ServerOptions,
    ) -> Result<Self, ServerError>
    where
        M: CausalLm + Send + 'static,
    {
        let registry = Registry::new(name.into())?;
        let (vocab, max_tokens) = (model.vocab(), model.max_tokens());
        if tokenizer.vocab() > vocab {
            return Err(ServerError::Vocabulary { tokenizer: tokenizer.vocab(), model: vocab });
        }
        let tokenizer = Arc::new(tokenizer);
        let engine = Engine::start(model, tokenizer.clone(), &options)?;
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let state = State { registry, engine, tokenizer, options, vocab, max_tokens, created };
        Ok(Self { state })
    }

    /// Serves the foundation with an app's adapter under another name too. It must fit the model.
    ///
    /// # Errors
    /// When the name is empty or taken.
    pub fn with_adapter(
        mut self,
        name: impl Into<String>,
        mounted: MountedAdapter,
    ) -> Result<Self, ServerError> {
        self.state.registry.add(name.into(), mounted)?;
        Ok(self)
    }

    /// The HTTP interface, to be served elsewhere or made part of another.
    pub fn into_router(self) -> Router {
        api::router(self.state)
    }

    /// Answers requests until `shutdown` is ready; then takes no new ones and returns when the last is answered.
    ///
    /// # Errors
    /// [`ServerError::Serve`]
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        let serving = axum::serve(listener, self.into_router()).with_graceful_shutdown(shutdown);
        serving.await.map_err(|reason| ServerError::Serve { reason })
    }
}
