use std::time::Duration;

use axum::Json;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use litemoe_core::{NotFiniteLogit, SamplingError};
use litemoe_text::{GrammarError, RowError, TextError};
use serde_json::{Value, json};

use crate::api::shorten::shorten;
use crate::engine::Event;
use crate::limits::Excess;
use crate::prompt::PromptError;

/// Maximum bytes of a message, which may quote the request.
const MAX_MESSAGE: usize = 1000;

/// Maximum bytes of `param`.
const MAX_PARAM: usize = 200;

/// Error response: `{"error": {message, type, param, code}}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
    /// `None` for the type by the status.
    kind: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = shorten(message.into(), MAX_MESSAGE);
        Self { status, message, param: None, code: None, kind: None, retry_after: None }
    }

    /// An error with a code.
    pub(crate) fn coded(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { code: Some(code), ..Self::new(status, message) }
    }

    /// Sets the type, where it is not that of the status.
    pub(crate) fn of_kind(self, kind: &'static str) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// Sets `Retry-After`.
    pub(crate) fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// Bad request: 400.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    /// Sets `param`, the field at fault.
    pub(crate) fn of(self, param: impl Into<String>) -> Self {
        Self { param: Some(shorten(param.into(), MAX_PARAM)), ..self }
    }

    /// What the path or a parameter names does not exist: 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::coded(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn missing(name: &str) -> Self {
        Self::bad_request("missing_required_parameter", format!("`{name}` is missing")).of(name)
    }

    pub(crate) fn unknown_parameter(name: &str) -> Self {
        Self::bad_request("unknown_parameter", format!("`{name}` is not a known parameter"))
            .of(name)
    }

    pub(crate) fn twice(name: &str) -> Self {
        Self::bad_request("invalid_value", format!("`{name}` is given twice")).of(name)
    }

    pub(crate) fn unknown_model(name: &str) -> Self {
        let message = format!("the model `{name}` does not exist");
        Self { code: Some("model_not_found"), ..Self::new(StatusCode::NOT_FOUND, message) }
            .of("model")
    }

    /// The body is larger than its limit: 413.
    pub(crate) fn too_large(max_body: usize) -> Self {
        let message = format!("the body has more than {max_body} bytes");
        let error = Self::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        Self { code: Some("request_too_large"), ..error }
    }

    /// The body did not arrive in time: 408.
    pub(crate) fn too_slow(time: Duration) -> Self {
        let message = format!("the body did not arrive within {time:?}");
        let error = Self::new(StatusCode::REQUEST_TIMEOUT, message);
        Self { code: Some("request_timeout"), ..error }
    }

    pub(crate) fn broken_body() -> Self {
        Self::bad_request("invalid_body", "the body is incomplete or malformed")
    }

    /// The request queue is full, or another client's request took this one's place in it.
    pub(crate) fn overloaded(retry_after: Duration) -> Self {
        Self::busy("too many requests are waiting; try again later", retry_after)
    }

    /// There is no memory left for the body.
    pub(crate) fn out_of_memory(retry_after: Duration) -> Self {
        Self::busy("too many bytes of requests are being read; try again later", retry_after)
    }

    fn busy(message: &str, retry_after: Duration) -> Self {
        Self {
            code: Some("overloaded"),
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// The model is being loaded: 503.
    pub(crate) fn loading(retry_after: Duration) -> Self {
        let message = "the model is being loaded; try again later";
        Self { code: Some("loading"), ..Self::busy(message, retry_after) }
    }

    pub(crate) fn no_embeddings() -> Self {
        let message = "the models of this server give no embeddings: they continue texts";
        Self::bad_request("unsupported", message)
    }

    pub(crate) fn no_host() -> Self {
        Self::bad_request("invalid_host", "the request has no valid `Host` header, or several")
    }

    pub(crate) fn foreign_host(host: &Authority) -> Self {
        let message = format!("the host `{host}` is not one that this server is allowed to serve");
        Self { code: Some("host_not_allowed"), ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    pub(crate) fn foreign_origin(origin: &HeaderValue) -> Self {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let message = format!("pages of the origin `{origin}` are not allowed to use this server");
        Self { code: Some("origin_not_allowed"), ..Self::new(StatusCode::FORBIDDEN, message) }
    }

    /// The client did not read its stream as fast as it was written.
    pub(crate) fn unread() -> Self {
        let message = "the stream was not read as fast as it was generated";
        Self { code: Some("stream_unread"), ..Self::new(StatusCode::REQUEST_TIMEOUT, message) }
    }

    pub(crate) fn stopped() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the engine does not run")
    }

    /// The request's deadline has passed.
    fn late() -> Self {
        let message = "the answer took longer than the server allows";
        Self {
            code: Some("deadline_exceeded"),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// The error that an event ends a request with.
    pub(crate) fn of_event(last: &Event, retry_after: Duration) -> Self {
        match last {
            Event::Displaced => Self::overloaded(retry_after),
            Event::Late => Self { retry_after: Some(retry_after), ..Self::late() },
            Event::Unread => Self::unread(),
            Event::NotFinite(error) => (*error).into(),
            Event::Constraint(error) => {
                let failed = Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
                Self { code: Some("constraint_failed"), ..failed }
            }
            Event::Failed | Event::Prompt(..) | Event::Piece(..) | Event::Finished(_) => {
                Self::failed()
            }
        }
    }

    /// The answer's grammar cannot be made, which the parameter demands.
    pub(crate) fn of_grammar(error: &GrammarError, param: &str) -> Self {
        let message = |error: &GrammarError| {
            shorten(format!("`{param}` cannot be kept: {error}"), MAX_MESSAGE)
        };
        let code = match error {
            GrammarError::UnsupportedKeyword { .. } | GrammarError::NoCallFormat => {
                "unsupported_parameter"
            }
            GrammarError::Tool { error: in_schema, .. } => {
                return Self { message: message(error), ..Self::of_grammar(in_schema, param) };
            }
            _ => "invalid_value",
        };
        Self::bad_request(code, message(error)).of(param)
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
        let kind = self.kind.unwrap_or(match self.status.is_server_error() {
            true => "server_error",
            false => "invalid_request_error",
        });
        json!({ "error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = HeaderValue::from(wait.as_secs_f64().ceil() as u64);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<Excess> for ApiError {
    fn from(excess: Excess) -> Self {
        let message = match excess {
            Excess::Bytes { n_bytes, max_bytes } => {
                format!(
                    "the messages are {n_bytes} bytes, but the context takes at most {max_bytes}"
                )
            }
            Excess::Text { max_tokens } => {
                format!("the messages are more than {max_tokens} tokens, which is the context")
            }
            Excess::Prompt { n_prompt, max_tokens } => format!(
                "the messages are {n_prompt} tokens, but the context is {max_tokens} with at least one for the answer"
            ),
            Excess::Answer { n_prompt, max_new, max_tokens } => format!(
                "the context is {max_tokens} tokens, but {n_prompt} in the messages and {max_new} in the answer are \
                 requested"
            ),
            Excess::Logprobs { n_logprobs, max_logprobs } => {
                format!(
                    "the answer would have up to {n_logprobs} logprobs, which is `n` × tokens × (`top_logprobs` + 1), \
                     but at most {max_logprobs} are allowed unless it is streamed"
                )
            }
        };
        let (code, param) = match excess {
            Excess::Answer { .. } => ("context_length_exceeded", "max_tokens"),
            Excess::Bytes { .. } | Excess::Text { .. } | Excess::Prompt { .. } => {
                ("context_length_exceeded", "messages")
            }
            Excess::Logprobs { .. } => ("invalid_value", "logprobs"),
        };
        Self::bad_request(code, message).of(param)
    }
}

impl From<PromptError> for ApiError {
    fn from(error: PromptError) -> Self {
        match error {
            PromptError::Text(error) => error.into(),
            PromptError::Excess(excess) => excess.into(),
        }
    }
}

impl From<SamplingError> for ApiError {
    fn from(error: SamplingError) -> Self {
        Self::bad_request("invalid_value", error.to_string()).of(error.parameter())
    }
}

impl From<RowError> for ApiError {
    fn from(error: RowError) -> Self {
        let code = match error {
            RowError::Type { .. } => "invalid_type",
            _ => "invalid_value",
        };
        Self::bad_request(code, error.to_string()).of(error.key().unwrap_or("messages"))
    }
}

impl From<NotFiniteLogit> for ApiError {
    fn from(error: NotFiniteLogit) -> Self {
        let failed = Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        Self { code: Some("logits_not_finite"), ..failed }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        match error {
            TextError::NotRendered { what } => {
                // Calls and results are in the messages.
                let param = if what.starts_with("tool ") { "messages" } else { what };
                Self::bad_request("unsupported_parameter", error.to_string()).of(param)
            }
            // A template may fail on tools, documents and variables of another form than it expects.
            TextError::TemplateFailed { .. }
            | TextError::TemplateRaised { .. }
            | TextError::TemplateTooLong { .. }
            | TextError::TemplateTooMuch { .. }
            | TextError::NoTemplate { .. } => {
                Self::bad_request("invalid_value", error.to_string()).of("messages")
            }
            error => {
                tracing::error!(%error, "a conversation could not be tokenized");
                Self::failed()
            }
        }
    }
}
