use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State as Extract};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::api::body;
use crate::api::error::ApiError;
use crate::caller::Caller;
use crate::slots::Slot;
use crate::state::{Shared, State};

/// An upload that may be received.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    /// When it must have arrived.
    pub(crate) deadline: Instant,
    _slot: Arc<Slot>,
}

/// Lets an app send files if it does not send others, and while there is room for them, within a time for all of it.
pub(crate) async fn receive(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let slot = match begin(&state, &caller) {
        Ok(slot) => slot,
        Err(refusal) => {
            body::refuse(request, &state).await;
            return refusal.into_response();
        }
    };
    let deadline = Instant::now() + state.options.timeouts.upload;
    request.extensions_mut().insert(Upload { deadline, _slot: Arc::new(slot) });
    next.run(request).await
}

fn begin(state: &Arc<State>, caller: &Caller) -> Result<Slot, ApiError> {
    let app = caller.app().ok_or_else(ApiError::needs_app)?;
    let slot = state.uploads.begin(&app.name);
    slot.map_err(|too_many| ApiError::too_many(too_many, state.options.retry_after))
}
