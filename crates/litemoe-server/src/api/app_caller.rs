use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use litemoe_registry::{App, AppName, Registry};
use tokio::task::spawn_blocking;

use crate::api::error::ApiError;
use crate::caller::Caller;
use crate::state::State;

/// The app that sent a request for its files or jobs, and the registry that has them.
#[derive(Debug, Clone)]
pub(crate) struct AppCaller {
    pub(crate) app: Arc<App>,
    registry: Registry,
}

impl AppCaller {
    /// Runs `work` on the registry off the asynchronous threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Registry, &AppName) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self { app, registry } = self.clone();
        let done = spawn_blocking(move || work(&registry, &app.name)).await;
        done.map_err(|_| ApiError::failed())?
    }
}

impl FromRequestParts<Arc<State>> for AppCaller {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<State>,
    ) -> Result<Self, ApiError> {
        let app = parts.extensions.get::<Caller>().and_then(Caller::app).cloned();
        match (app, &state.apps) {
            (Some(app), Some(apps)) => Ok(Self { app, registry: apps.registry().clone() }),
            _ => Err(ApiError::coded(
                StatusCode::FORBIDDEN,
                "app_required",
                "files and fine-tuning jobs belong to apps: add one with `litemoe app add` and send its key",
            )),
        }
    }
}
