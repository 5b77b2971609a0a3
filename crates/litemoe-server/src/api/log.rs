use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tracing::{Instrument, Span};

use crate::api::request_id::{REQUEST_ID, request_id};
use crate::api::shorten::shorten;

/// Maximum bytes of a method or a path in the log.
const MAX_TEXT: usize = 256;

/// What a handler adds to its request's log entry. Nothing of a prompt or an answer.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Name of the app.
    pub(crate) app: OnceLock<String>,
    /// Name of a served model.
    pub(crate) model: OnceLock<String>,
    pub(crate) n_prompt: OnceLock<usize>,
    pub(crate) n_cached: OnceLock<usize>,
    pub(crate) n_completion: OnceLock<usize>,
}

/// Log entry of a request, written when it is dropped: at the end of the answer, or when the client disconnects.
#[derive(Debug)]
struct Entry {
    span: Span,
    record: Arc<Record>,
    begin: Instant,
    /// `None` before the answer begins.
    status: Option<StatusCode>,
    is_complete: bool,
}

/// Gives the request an id, which its answer has as a header, and logs it. The handler finds a [`Record`] in the
/// request's extensions.
pub(crate) async fn log(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let record = Arc::new(Record::default());
    request.extensions_mut().insert(record.clone());
    // The span is there at any level of the log, so that other lines show the request's id.
    let span = tracing::error_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = shorten(request.method().to_string(), MAX_TEXT),
        path = shorten(plain(request.uri().path()), MAX_TEXT),
    );
    let (begin, status, is_complete) = (Instant::now(), None, false);
    let mut entry = Entry { span: span.clone(), record, begin, status, is_complete };
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    entry.status = Some(response.status());
    response.map(|body| Body::new(LoggedBody { body, entry }))
}

/// A path with control characters by their escapes: a form of the log may not escape them.
fn plain(path: &str) -> String {
    let mut text = String::new();
    for letter in path.chars() {
        match letter.is_control() {
            true => text.extend(letter.escape_default()),
            false => text.push(letter),
        }
    }
    text
}

impl Drop for Entry {
    fn drop(&mut self) {
        let _entered = self.span.enter();
        let Record { app, model, n_prompt, n_cached, n_completion } = &*self.record;
        tracing::info!(
            status = self.status.map(|status| status.as_u16()),
            app = app.get().map(String::as_str),
            model = model.get().map(String::as_str),
            prompt_tokens = n_prompt.get(),
            cached_tokens = n_cached.get(),
            completion_tokens = n_completion.get(),
            elapsed_ms = self.begin.elapsed().as_micros() as f64 / 1000.0,
            "{}",
            if self.is_complete { "answered" } else { "the connection ended before the answer" },
        );
    }
}

/// Body of an answer that ends a log entry.
#[derive(Debug)]
struct LoggedBody {
    body: Body,
    entry: Entry,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.entry.is_complete |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        self.entry.is_complete |= self.body.is_end_stream();
    }
}
