use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State as Extract};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::timeout;

use crate::api::body;
use crate::api::error::ApiError;
use crate::apps::OverLimit;
use crate::caller::Caller;
use crate::state::{Shared, State};
use crate::uploads::{TooMany, Upload};

/// Lets an app send files if it does not send others, and while there is room for them, within a time for all of it.
pub(crate) async fn receive(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let upload = match begin(&state, &caller) {
        Ok(upload) => upload,
        Err(refusal) => {
            body::refuse(request, &state).await;
            return refusal.into_response();
        }
    };
    let time = state.options.timeouts.upload;
    let answered = timeout(time, next.run(request)).await;
    drop(upload);
    answered.unwrap_or_else(|_| ApiError::too_slow(time).into_response())
}

fn begin(state: &Arc<State>, caller: &Caller) -> Result<Upload, ApiError> {
    let app = caller.app().ok_or_else(ApiError::needs_app)?;
    let retry_after = state.options.retry_after;
    state.uploads.begin(&app.name).map_err(|too_many| match too_many {
        TooMany::Own { limit } => {
            ApiError::over_limit(OverLimit::Concurrency { limit }, retry_after)
        }
        TooMany::All => ApiError::overloaded(retry_after),
    })
}
