use std::time::Duration;

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use litemoe_core::SamplingError;
use litemoe_text::TextError;
use serde_json::{Value, json};

/// Error response: `{"error": {message, type, param, code}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None, retry_after: None }
    }

    /// Bad request: 400.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// Sets `param`, the field at fault.
    pub(crate) fn of(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    pub(crate) fn unknown_model(name: &str) -> Self {
        let message = format!("the model `{name}` does not exist");
        Self { code: Some("model_not_found"), ..Self::new(StatusCode::NOT_FOUND, message) }
            .of("model")
    }

    pub(crate) fn too_long(n_prompt: usize, max_tokens: usize) -> Self {
        let message = format!(
            "the messages are {n_prompt} tokens, but the model takes {max_tokens} with at least one for the answer"
        );
        Self::bad_request("context_length_exceeded", message).of("messages")
    }

    pub(crate) fn overloaded(retry_after: Duration) -> Self {
        let message = "too many requests are waiting; try again later";
        Self {
            code: Some("overloaded"),
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    pub(crate) fn stopped() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the engine does not run")
    }

    pub(crate) fn failed() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the generation failed; the server's log says why",
        )
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path")
    }

    pub(crate) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
    }

    /// Body of the error response.
    pub(crate) fn body(&self) -> Value {
        let kind = match self.status.is_server_error() {
            true => "server_error",
            false => "invalid_request_error",
        };
        json!({ "error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = HeaderValue::from(wait.as_secs());
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<SamplingError> for ApiError {
    fn from(error: SamplingError) -> Self {
        Self::bad_request("invalid_value", error.to_string()).of(error.parameter())
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::TemplateRaised { .. } | TextError::NoTemplate { .. } => {
                Self::bad_request("invalid_value", error.to_string()).of("messages")
            }
            error => {
                tracing::error!(%error, "a conversation could not be tokenized");
                Self::failed()
            }
        }
    }
}
