//! A server with a registry of apps in a temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use litemoe_registry::{
    AppName, NewAdapter, Owner, Provenance, Registry, Settings, StoredAdapter, Usage,
};
use litemoe_server::{FittingAdapter, Proxies, Server, ServerOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use crate::client::{chat, read};
use crate::toy::{Toy, adapter, tokenizer};

/// Fingerprint of the toy model.
pub(crate) const FOUNDATION: &str = "f00d";

/// A server of the toy model `toy`, of an adapter `fixed` that is served from the start, and of the adapters in its
/// registry. An adapter's directory with a file `bad` cannot be loaded, and one with a file `slow` takes time.
pub(crate) struct Shop {
    dir: TempDir,
    pub(crate) registry: Registry,
    pub(crate) router: Router,
    /// Number of adapters that were loaded.
    pub(crate) n_loads: Arc<AtomicUsize>,
}

pub(crate) fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

impl Shop {
    pub(crate) fn of(toy: Toy) -> Self {
        Self::with(toy, ServerOptions::default())
    }

    pub(crate) fn with(toy: Toy, options: ServerOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(&dir.path().join("registry")).unwrap();
        let n_loads = Arc::new(AtomicUsize::new(0));
        let server = server(toy, options, registry.clone(), n_loads.clone());
        Self { dir, registry, router: server.into_router(), n_loads }
    }

    /// The same with a way to make proxies.
    pub(crate) fn with_proxies(
        toy: Toy,
        options: ServerOptions,
        proxies: impl Proxies + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::create(&dir.path().join("registry")).unwrap();
        let n_loads = Arc::new(AtomicUsize::new(0));
        let server = server(toy, options, registry.clone(), n_loads.clone());
        Self { dir, registry, router: server.with_proxies(proxies).into_router(), n_loads }
    }

    /// Adds an app without limits, and returns its key.
    pub(crate) fn add(&self, name: &str) -> String {
        self.add_with(name, &Settings::default())
    }

    pub(crate) fn add_with(&self, name: &str, settings: &Settings) -> String {
        self.registry.add_app(&app(name), settings).unwrap().reveal()
    }

    /// Stores an adapter with a file of this name; `None`: of no app.
    pub(crate) fn put(
        &self,
        owner: Option<&str>,
        name: &str,
        file: &str,
        replaces: Option<u64>,
    ) -> StoredAdapter {
        let dir = self.folder(file);
        let provenance = Provenance {
            foundation: FOUNDATION.to_owned(),
            plan: None,
            data: None,
            metrics: Value::Null,
        };
        self.put_of(owner, name, &dir, &provenance, replaces)
    }

    pub(crate) fn put_of(
        &self,
        owner: Option<&str>,
        name: &str,
        dir: &Path,
        provenance: &Provenance,
        replaces: Option<u64>,
    ) -> StoredAdapter {
        let owner = owner.map_or(Owner::Shared, |name| Owner::App(app(name)));
        let name = &name.parse().unwrap();
        let new = NewAdapter { owner: &owner, name, dir, provenance, replaces };
        self.registry.put_adapter(&new).unwrap()
    }

    /// A folder with an empty file.
    pub(crate) fn folder(&self, file: &str) -> PathBuf {
        let dir = self.dir.path().join(file);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), "").unwrap();
        dir
    }

    /// Sends a request with a key.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: impl Into<Body>,
    ) -> Response<Body> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {key}"));
        self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Response<Body> {
        self.send("GET", path, key, Body::empty()).await
    }

    pub(crate) async fn post(&self, key: &str, fields: &Value) -> Response<Body> {
        self.send("POST", "/v1/chat/completions", key, chat(fields).to_string()).await
    }

    /// The answer to a chat that must succeed.
    pub(crate) async fn answer(&self, key: &str, fields: &Value) -> Value {
        let response = self.post(key, fields).await;
        assert_eq!(response.status(), 200);
        read(response).await
    }

    /// The text of an answer of a model.
    pub(crate) async fn content(&self, key: &str, model: &str) -> String {
        let answer = self.answer(key, &json!({ "model": model })).await;
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// Names of the models that a key lists.
    pub(crate) async fn models(&self, key: &str) -> Vec<String> {
        let list = read(self.get("/v1/models", key).await).await;
        let names = list["data"].as_array().unwrap().iter();
        names.map(|card| card["id"].as_str().unwrap().to_owned()).collect()
    }

    /// An app's usage of today when it is that of so many requests.
    pub(crate) async fn usage(&self, name: &str, n_requests: u64) -> Usage {
        loop {
            let usage = self.registry.usage_today(&app(name)).unwrap();
            if usage.requests >= n_requests {
                return usage;
            }
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(5)))
                .await
                .unwrap();
        }
    }
}

pub(crate) fn server(
    toy: Toy,
    options: ServerOptions,
    registry: Registry,
    n_loads: Arc<AtomicUsize>,
) -> Server {
    let load = move |dir: &Path| {
        n_loads.fetch_add(1, Ordering::SeqCst);
        if dir.join("slow").exists() {
            std::thread::sleep(Duration::from_millis(300));
        }
        match dir.join("bad").exists() {
            true => Err("it has a bad file".to_owned()),
            false => Ok(FittingAdapter { mounted: adapter(), foundation: FOUNDATION.to_owned() }),
        }
    };
    let server = Server::new("toy", toy, tokenizer(), options).unwrap();
    let server = server.with_adapter("fixed", adapter()).unwrap();
    server.with_registry(registry, FOUNDATION, load).unwrap()
}
