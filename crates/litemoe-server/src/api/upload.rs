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

/// Time at which an upload must have arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Instant);

/// Lets an app send files if it does not send others, and while there is room for them, within a time for all of it.
pub(crate) async fn receive(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let _slot = match begin(&state, &caller) {
        Ok(slot) => slot,
        Err(refusal) => {
            body::refuse(request, &state).await;
            return refusal.into_response();
        }
    };
    request.extensions_mut().insert(Deadline(Instant::now() + state.options.timeouts.upload));
    next.run(request).await
}

fn begin(state: &Arc<State>, caller: &Caller) -> Result<Slot, ApiError> {
    let app = caller.app().ok_or_else(ApiError::needs_app)?;
    let slot = state.uploads.begin(&app.name);
    slot.map_err(|too_many| ApiError::too_many(too_many, state.options.retry_after))
}
