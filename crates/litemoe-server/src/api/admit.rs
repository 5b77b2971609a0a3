use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::blocking::blocking;
use crate::api::body;
use crate::api::error::ApiError;
use crate::apps::{Admission, Left, Room};
use crate::caller::Caller;
use crate::state::{Shared, State};

/// Admits a request to the model if its app is within its limits, before its body is read. The handler finds an
/// `Option<Admission>` in the request's extensions.
pub(crate) async fn admit(
    Extract(state): Shared,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    match admission(&state, &caller).await {
        Ok(admission) => {
            let room = admission.as_ref().map(Admission::room).unwrap_or_default();
            request.extensions_mut().insert(admission);
            let mut response = next.run(request).await;
            add_headers(response.headers_mut(), room);
            response
        }
        Err((refusal, room)) => {
            body::refuse(request, &state).await;
            let mut response = refusal.into_response();
            add_headers(response.headers_mut(), room);
            response
        }
    }
}

async fn admission(state: &State, caller: &Caller) -> Result<Option<Admission>, (ApiError, Room)> {
    let (Some(apps), Some(app)) = (state.apps.clone(), caller.app().cloned()) else {
        return Ok(None);
    };
    let failed = |error| (error, Room::default());
    let admitted = blocking(move || apps.admit(app)).await.map_err(failed)?;
    let admitted = admitted.map_err(|error| failed(error.into()))?;
    let retry_after = state.options.retry_after;
    admitted.map(Some).map_err(|(over, room)| (ApiError::over_limit(over, retry_after), room))
}

/// What is left of the limits per minute, as OpenAI's API tells it.
fn add_headers(headers: &mut HeaderMap, room: Room) {
    let named = [("requests", room.requests), ("tokens", room.tokens)];
    for (name, left) in named {
        let Some(Left { limit, left, reset }) = left else { continue };
        for (what, value) in [
            ("limit", limit.to_string()),
            ("remaining", left.to_string()),
            ("reset", seconds(reset)),
        ] {
            let name = HeaderName::try_from(format!("x-ratelimit-{what}-{name}"));
            let value = HeaderValue::try_from(value);
            headers.insert(name.expect("letters"), value.expect("digits"));
        }
    }
}

/// A time such as `1.500s`.
fn seconds(time: Duration) -> String {
    format!("{:.3}s", time.as_secs_f64())
}
