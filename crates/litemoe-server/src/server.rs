use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use litemoe_core::{CausalLm, MoeLayer, MountedAdapter};
use litemoe_registry::Registry;
use litemoe_text::Tokenizer;
use tokio::net::TcpListener;

use crate::api::guard::Guard;
use crate::apps::{AdapterBounds, Apps, Loader, StoredAdapters};
use crate::engine::Engine;
use crate::identity::now;
use crate::lanes::Lanes;
use crate::limits::Context;
use crate::models::Models;
use crate::proxies::ProxyDesk;
use crate::quota::Quota;
use crate::slots::Slots;
use crate::state::State;
use crate::{FittingAdapter, FoundationId, Listening, Proxies, ServerError, ServerOptions, api};

/// Uploads of one app at the same time, and of all apps.
const MAX_UPLOADS_PER_APP: usize = 2;
const MAX_UPLOADS: usize = 16;

/// OpenAI-compatible HTTP server for one foundation and its adapters.
#[derive(Debug)]
pub struct Server {
    state: State,
    guard: Guard,
    /// The model's mixture-of-experts layers.
    layers: Vec<MoeLayer>,
}

impl Server {
    /// Creates a server for a foundation under a model name. The model moves to its own thread.
    ///
    /// # Errors
    /// If the name is empty, an allowed host or origin is none, the largest body does not fit the memory for bodies, the
    /// tokenizer's vocabulary is larger than the model's, or a thread cannot be started.
    pub fn new<M>(
        name: impl Into<String>,
        model: M,
        tokenizer: Tokenizer,
        options: ServerOptions,
    ) -> Result<Self, ServerError>
    where
        M: CausalLm + Send + 'static,
    {
        let models = Models::new(name.into())?;
        let guard = Guard::new(&options)?;
        let (max_body, max_in_flight) = (options.limits.max_body, options.max_in_flight);
        if max_body > max_in_flight {
            return Err(ServerError::Bodies { max_body, max_in_flight });
        }
        let vocab = model.vocab();
        let context = Context::new(model.max_tokens(), model.has_encoder(), &options.limits);
        let layers = model.moe_layers().to_vec();
        if tokenizer.vocab() > vocab {
            return Err(ServerError::Vocabulary { tokenizer: tokenizer.vocab(), model: vocab });
        }
        let tokenizer = Arc::new(tokenizer);
        let engine = Engine::start(model, tokenizer.clone(), &options)?;
        let created = now();
        let quota = Quota::new(options.max_in_flight, options.limits.max_body);
        let lanes = Lanes::start().map_err(|reason| ServerError::Thread { reason })?;
        let state = State {
            models,
            apps: None,
            engine,
            tokenizer,
            quota,
            lanes,
            uploads: Slots::new(MAX_UPLOADS_PER_APP, MAX_UPLOADS),
            desk: None,
            options,
            vocab,
            context,
            created,
        };
        Ok(Self { state, guard, layers })
    }

    /// Adds an app's mounted adapter under its own model name. Its LoRAs must fit the foundation.
    ///
    /// # Errors
    /// If the name is empty or taken, or the router bias does not fit the foundation's layers.
    pub fn with_adapter(
        mut self,
        name: impl Into<String>,
        mounted: MountedAdapter,
    ) -> Result<Self, ServerError> {
        let name = name.into();
        if let Err(source) = mounted.check_routing(&self.layers) {
            return Err(ServerError::Routing { name, source });
        }
        self.state.models.add(name, mounted)?;
        Ok(self)
    }

    /// Serves the apps of a registry: keys are asked for from the first app on, and each app has its own limits, share of
    /// the engine, KV caches and adapters. `foundation` is what artefacts call the foundation, and `load` loads the adapter
    /// of a directory for it; what `load` says of a directory that it refuses is shown to the app that uploads it.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn with_registry(
        mut self,
        registry: Registry,
        foundation: impl Into<FoundationId>,
        load: impl Fn(&Path) -> Result<FittingAdapter, String> + Send + Sync + 'static,
    ) -> Result<Self, ServerError> {
        let (layers, options) = (self.layers.clone(), &self.state.options);
        let bounds = AdapterBounds {
            max_adapters: options.max_adapters.get(),
            max_bytes: options.max_adapter_bytes,
        };
        let loader: Loader = Arc::new(load);
        let adapters =
            StoredAdapters::new(registry.clone(), foundation.into(), layers, loader, bounds);
        let apps =
            Apps::start(registry, adapters).map_err(|reason| ServerError::Thread { reason })?;
        self.state.apps = Some(Arc::new(apps));
        Ok(self)
    }

    /// Makes proxies for the apps, and mounts the adapters that they tune on them.
    #[must_use]
    pub fn with_proxies(mut self, proxies: impl Proxies + 'static) -> Self {
        self.state.desk = Some(ProxyDesk::new(proxies));
        self
    }

    /// Whether keys of apps are asked for. If not, only clients on this machine are served.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn asks_for_keys(&self) -> Result<bool, ServerError> {
        let Some(apps) = &self.state.apps else { return Ok(false) };
        apps.asks_for_keys().map_err(|source| ServerError::Registry { source })
    }

    /// The HTTP routes, to serve or nest elsewhere. Time-outs of headers and writes and the number of connections are
    /// those of the caller's listener. Clients are told apart by axum's `ConnectInfo<SocketAddr>`, if there is one.
    pub fn into_router(self) -> Router {
        api::router(self.state, self.guard.at(None))
    }

    /// Answers the requests of a listener from now on: on a loopback address, or on any if keys are asked for.
    ///
    /// # Errors
    /// If the address is not a loopback address and no keys are asked for; if the registry cannot be read.
    pub fn open(self, listening: &Listening) -> Result<(), ServerError> {
        let address = listening.address().ip();
        if !(address.to_canonical().is_loopback() || self.asks_for_keys()?) {
            return Err(ServerError::Open { address });
        }
        listening.open(api::router(self.state, self.guard.at(Some(address))));
        Ok(())
    }

    /// Serves requests until `shutdown` is ready, then accepts no new ones and returns when all running ones are
    /// answered, or [`Timeouts::shutdown`](crate::Timeouts::shutdown) later.
    ///
    /// # Errors
    /// As [`Listening::new`] and [`open`](Self::open).
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServerError> {
        let listening = Listening::new(listener, &self.state.options)?;
        self.open(&listening)?;
        shutdown.await;
        listening.stop().await;
        Ok(())
    }
}
