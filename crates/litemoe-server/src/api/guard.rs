use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::api::error::ApiError;
use crate::api::request_id::REQUEST_ID;
use crate::hosts::{Hosts, is_host};
use crate::origins::{Origins, is_own};
use crate::{ServerError, ServerOptions};

/// Time for which browsers remember a preflight's answer.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Guard against pages of other sites in a client's browser, also if their names were rebound to the server's address
/// (DNS rebinding).
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    hosts: Hosts,
    origins: Origins,
}

impl Guard {
    pub(crate) fn new(options: &ServerOptions) -> Result<Self, ServerError> {
        let hosts = Hosts::parse(&options.allowed_hosts)?;
        Ok(Self { hosts, origins: Origins::parse(&options.allowed_origins)? })
    }

    /// The guard of a server that listens on an address.
    pub(crate) fn at(self, address: Option<IpAddr>) -> Self {
        Self { hosts: self.hosts.at(address), ..self }
    }

    /// Headers for allowed origins (CORS); `None` if there are none.
    pub(crate) fn cors(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins = self.origins.clone();
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| origins.allows(origin)))
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([REQUEST_ID, header::RETRY_AFTER, header::ETAG])
            .max_age(MAX_AGE);
        Some(cors)
    }

    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        let host = match request.uri().authority() {
            Some(authority) => Some(authority.clone()),
            None => host(request.headers())?,
        };
        match &host {
            Some(host) if !self.hosts.serves(host) => return Err(ApiError::foreign_host(host)),
            None if !self.hosts.is_any() => return Err(ApiError::no_host()),
            _ => {}
        }
        for origin in request.headers().get_all(header::ORIGIN) {
            if !is_own(origin, host.as_ref()) && !self.origins.allows(origin) {
                return Err(ApiError::foreign_origin(origin));
            }
        }
        Ok(())
    }
}

/// Refuses requests that are not for a served host, or come from another site's page.
pub(crate) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    guard.admit(&request)?;
    Ok(next.run(request).await)
}

/// The `Host` header; `None` if it is missing.
fn host(headers: &HeaderMap) -> Result<Option<Authority>, ApiError> {
    let mut given = headers.get_all(header::HOST).iter();
    let Some(host) = given.next() else { return Ok(None) };
    let host = Authority::try_from(host.as_bytes()).ok().filter(is_host);
    match (host, given.next()) {
        (Some(host), None) => Ok(Some(host)),
        _ => Err(ApiError::no_host()),
    }
}
