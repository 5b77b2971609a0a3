use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use litemoe_registry::{App, AppName, Registry};

use crate::api::adapters::of_app;
use crate::api::blocking::blocking;
use crate::api::error::ApiError;
use crate::apps::Apps;
use crate::caller::Caller;
use crate::state::State;

/// The app that sent a request about its files or jobs, and the registry that has them.
#[derive(Debug, Clone)]
pub(crate) struct AppCaller {
    apps: Arc<Apps>,
    app: Arc<App>,
}

impl AppCaller {
    /// Runs `work` on the registry off the asynchronous threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry, &AppName) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self { apps, app } = self.clone();
        blocking(move || work(apps.registry(), &app.name)).await?
    }
}

impl FromRequestParts<Arc<State>> for AppCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().ok_or_else(ApiError::needs_app)?;
        let (apps, app) = of_app(state, caller)?;
        Ok(Self { apps, app })
    }
}
