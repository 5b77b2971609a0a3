use std::sync::{Arc, OnceLock};

use axum::Router;

/// Routes of a listener: those before the server is there, then those of the server.
#[derive(Debug, Clone)]
pub(crate) struct Switch {
    before: Router,
    opened: Arc<OnceLock<Router>>,
}

impl Switch {
    pub(crate) fn new(before: Router) -> Self {
        Self { before, opened: Arc::default() }
    }

    /// From now on, requests are the server's.
    pub(crate) fn open(&self, router: Router) {
        let _ = self.opened.set(router);
    }

    /// The routes of a request that comes now.
    pub(crate) fn now(&self) -> Router {
        self.opened.get().unwrap_or(&self.before).clone()
    }
}
