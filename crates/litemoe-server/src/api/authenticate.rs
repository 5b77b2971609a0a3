use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State as Extract};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::blocking::blocking;
use crate::api::body;
use crate::api::error::ApiError;
use crate::api::log::Record;
use crate::apps::KeyOwner;
use crate::caller::Caller;
use crate::client::peer_of;
use crate::state::{Shared, State};

/// Finds the app of a request's key, before its body is read. Handlers find a [`Caller`] in the request's extensions.
pub(crate) async fn authenticate(
    Extract(state): Shared,
    mut request: Request,
    next: Next,
) -> Response {
    let key = key(request.headers());
    match caller(&state, key, address(&request)).await {
        Ok(caller) => {
            let record = request.extensions().get::<Arc<Record>>();
            if let (Some(record), Some(app)) = (record, caller.app()) {
                let _ = record.app.set(app.name.to_string());
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => {
            body::refuse(request, &state).await;
            refusal.into_response()
        }
    }
}

async fn caller(
    state: &State,
    key: Option<String>,
    address: Option<IpAddr>,
) -> Result<Caller, ApiError> {
    let Some(apps) = state.apps.clone() else { return Ok(Caller::Open(address)) };
    let is_given = key.is_some();
    match blocking(move || apps.authenticate(key.as_deref())).await? {
        Ok(KeyOwner::App(app)) => Ok(Caller::App(app)),
        Ok(KeyOwner::Open) => Ok(Caller::Open(address)),
        Ok(KeyOwner::Unknown) => Err(ApiError::no_app(is_given)),
        Err(error) => Err(error.into()),
    }
}

/// The client's address, if it is known.
fn address(request: &Request) -> Option<IpAddr> {
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
    address.map(|ConnectInfo(address)| peer_of(address.ip()))
}

/// The bearer token of the `Authorization` header. One that is not text, or not the only one, is no app's.
pub(crate) fn key(headers: &HeaderMap) -> Option<String> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next()?;
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    Some(token.filter(|_| given.next().is_none()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_a_single_bearer_token() {
        let key = |given: &[&str]| {
            let header =
                |value: &&str| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            key(&given.iter().map(header).collect())
        };
        assert_eq!(key(&[]), None);
        for given in ["Bearer lm-1-2", "bearer  lm-1-2", "BEARER lm-1-2 "] {
            assert_eq!(key(&[given]).as_deref(), Some("lm-1-2"), "{given}");
        }
        for given in [&["lm-1-2"][..], &["Basic lm-1-2"], &["Bearer"], &["Bearer a", "Bearer a"]] {
            assert_eq!(key(given).as_deref(), Some(""), "{given:?}");
        }
    }
}
