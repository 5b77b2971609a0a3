//! What apps are told of their keys, limits and adapters.

use std::time::Duration;

use axum::http::StatusCode;
use litemoe_registry::AdapterName;

use crate::api::error::ApiError;
use crate::apps::OverLimit;
use crate::slots::TooMany;

impl ApiError {
    /// The request has no key of an app, or one that is not valid: 401.
    pub(crate) fn no_app(is_given: bool) -> Self {
        let message = match is_given {
            true => "the key is not valid",
            false => {
                "this service asks for an app's key, in the header `Authorization: Bearer KEY`"
            }
        };
        Self::coded(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    pub(crate) fn no_form() -> Self {
        Self::bad_request("invalid_body", "the body is not `multipart/form-data`")
    }

    /// The path is about what apps own: 403.
    pub(crate) fn needs_app() -> Self {
        let message = "this is for apps with keys, and this service has none";
        Self::coded(StatusCode::FORBIDDEN, "app_required", message)
    }

    /// An adapter of the name is there, and no condition says that it is to be replaced: 409.
    pub(crate) fn adapter_exists(name: &AdapterName) -> Self {
        let message = format!(
            "there is an adapter `{name}` already; `If-Match` with its entity tag replaces it"
        );
        Self::coded(StatusCode::CONFLICT, "adapter_exists", message)
    }

    /// The adapter is not, or no longer, the one of `If-Match`: 412.
    pub(crate) fn other_content(name: &AdapterName) -> Self {
        let message = format!("the adapter `{name}` does not have the entity tag of `If-Match`");
        Self::coded(StatusCode::PRECONDITION_FAILED, "other_content", message)
    }

    pub(crate) fn no_adapter(name: &str) -> Self {
        Self::not_found(format!("there is no adapter `{name}`"))
    }

    /// The app has reached a limit: 429.
    pub(crate) fn over_limit(over: OverLimit, retry_after: Duration) -> Self {
        let (kind, wait, message) = match over {
            OverLimit::Requests { limit, wait } => {
                ("requests", wait, format!("the app's limit is {limit} requests per minute"))
            }
            OverLimit::Tokens { limit, wait } => {
                ("tokens", wait, format!("the app's limit is {limit} tokens per minute"))
            }
            OverLimit::Concurrency { limit } => {
                ("concurrency", retry_after, format!("the app's limit is {limit} requests at once"))
            }
            OverLimit::Day { limit, wait } => (
                "insufficient_quota",
                wait,
                format!("the app's limit is {limit} tokens per day (UTC)"),
            ),
        };
        let code = match over {
            OverLimit::Day { .. } => "insufficient_quota",
            _ => "rate_limit_exceeded",
        };
        Self::coded(StatusCode::TOO_MANY_REQUESTS, code, message).after(wait).of_kind(kind)
    }

    /// What was sent, or is to be made, cannot be written: 507.
    pub(crate) fn storage_full() -> Self {
        let message = "the service's disk is full or fails";
        Self::coded(StatusCode::INSUFFICIENT_STORAGE, "storage_full", message)
    }

    /// The server has no way to make proxies: 403.
    pub(crate) fn no_proxies() -> Self {
        let message = "this service makes no proxies";
        Self::coded(StatusCode::FORBIDDEN, "unsupported", message)
    }

    /// The app, or all apps together, have too many such requests at once.
    pub(crate) fn too_many(too_many: TooMany, retry_after: Duration) -> Self {
        match too_many {
            TooMany::Own { limit } => {
                Self::over_limit(OverLimit::Concurrency { limit }, retry_after)
            }
            TooMany::All => Self::overloaded(retry_after),
        }
    }

    /// The stored adapter does not fit the foundation; the log says why.
    pub(crate) fn unloadable(name: &str) -> Self {
        let message = format!("the adapter `{name}` cannot be loaded; the server's log says why");
        Self::coded(StatusCode::INTERNAL_SERVER_ERROR, "adapter_failed", message).of("model")
    }
}
