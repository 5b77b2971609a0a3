use std::time::Duration;

use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::StatusCode;
use tokio::time::{Instant, timeout, timeout_at};

use crate::api::error::ApiError;
use crate::api::paced_body::{PacedBody, Taken};
use crate::api::upload::Upload;
use crate::state::State;

/// Maximum bytes of a field that is a text.
const MAX_TEXT: usize = 4 << 10;

/// Maximum bytes of a refused form that are read and discarded.
const MAX_DISCARDED: usize = 64 << 20;

/// Form of a request (`multipart/form-data`), read within the limits of uploads.
#[derive(Debug)]
pub(crate) struct Form {
    fields: Multipart,
    limits: Limits,
}

#[derive(Debug)]
struct Limits {
    /// Bytes that may still come.
    left: u64,
    max_upload: u64,
    /// Time in which some bytes must come.
    time: Duration,
    /// Time for all of them, and when it is over.
    upload_time: Duration,
    deadline: Instant,
    /// Its place among uploads, until the form is dropped.
    _upload: Option<Upload>,
    /// What the parser has given on.
    taken: Taken,
}

/// Field of a form.
#[derive(Debug)]
pub(crate) struct Part<'f> {
    field: Field<'f>,
    limits: &'f mut Limits,
}

impl Form {
    pub(crate) async fn of(request: Request, state: &State) -> Result<Self, ApiError> {
        let (max_upload, timeouts) = (state.options.max_upload, &state.options.timeouts);
        let (time, upload_time) = (timeouts.body, timeouts.upload);
        let upload = request.extensions().get::<Upload>().cloned();
        let deadline = upload.as_ref().map(|upload| upload.deadline);
        let deadline = deadline.unwrap_or_else(|| Instant::now() + upload_time);
        let (head, body) = request.into_parts();
        let (body, taken) = PacedBody::over(body);
        let request = Request::from_parts(head, body);
        let fields =
            Multipart::from_request(request, &()).await.map_err(|_| ApiError::no_form())?;
        let limits = Limits {
            left: max_upload,
            max_upload,
            time,
            upload_time,
            deadline,
            _upload: upload,
            taken,
        };
        Ok(Self { fields, limits })
    }

    /// The next field.
    pub(crate) async fn next(&mut self) -> Result<Option<Part<'_>>, ApiError> {
        let Self { fields, limits } = self;
        let field = limits.timely(fields.next_field()).await?.map_err(broken)?;
        Ok(field.map(|field| Part { field, limits }))
    }

    /// Reads and discards the rest of a form that is refused, as far as it comes in time: a client that cannot send its
    /// request does not read the refusal.
    pub(crate) async fn discard(mut self) {
        let (time, mut left) = (self.limits.time, MAX_DISCARDED);
        let rest = async {
            while let Ok(Some(mut field)) = self.fields.next_field().await {
                while let Ok(Some(chunk)) = field.chunk().await {
                    self.limits.taken.add(chunk.len() as u64);
                    match left.checked_sub(chunk.len()) {
                        Some(fewer) => left = fewer,
                        None => return,
                    }
                }
            }
        };
        let _ = timeout(time, rest).await;
    }
}

impl Limits {
    /// Waits for some bytes, as long as the client may take.
    async fn timely<T>(&self, bytes: impl Future<Output = T>) -> Result<T, ApiError> {
        let pause = Instant::now() + self.time;
        let (until, time) = match self.deadline < pause {
            true => (self.deadline, self.upload_time),
            false => (pause, self.time),
        };
        timeout_at(until, bytes).await.map_err(|_| ApiError::too_slow(time))
    }
}

impl Part<'_> {
    pub(crate) fn name(&self) -> &str {
        self.field.name().unwrap_or_default()
    }

    pub(crate) fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    /// The next bytes of the content.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let chunk = self.limits.timely(self.field.chunk()).await?.map_err(broken)?;
        let n_bytes = chunk.as_ref().map_or(0, Bytes::len) as u64;
        self.limits.taken.add(n_bytes);
        match self.limits.left.checked_sub(n_bytes) {
            Some(left) => self.limits.left = left,
            None => return Err(too_large(self.limits.max_upload)),
        }
        Ok(chunk)
    }

    /// The content, if it is a short text.
    pub(crate) async fn text(mut self) -> Result<String, ApiError> {
        let mut bytes = Vec::new();
        let name = self.name().to_owned();
        let invalid = |expected: &str| {
            ApiError::bad_request("invalid_value", format!("`{name}` is not {expected}"))
                .of(name.as_str())
        };
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > MAX_TEXT {
                return Err(invalid(&format!("a text of at most {MAX_TEXT} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| invalid("a text in UTF-8"))
    }
}

/// Takes away axum's own limit of bodies: uploads have that of the options.
pub(crate) fn without_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::disable()
}

fn too_large(max_upload: u64) -> ApiError {
    let message = format!("the files have more than {max_upload} bytes");
    ApiError::coded(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

fn broken(_: MultipartError) -> ApiError {
    ApiError::broken_body()
}
