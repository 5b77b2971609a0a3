use std::time::Duration;

use axum::body::{BodyDataStream, HttpBody};
use axum::extract::Request;
use axum::http::header;
use futures::StreamExt;
use litemoe_core::Sampling;
use litemoe_registry::AppName;
use tokio::time::{Instant, timeout, timeout_at};

use crate::RequestLimits;
use crate::api::error::ApiError;
use crate::caller::Caller;
use crate::quota::Reserved;
use crate::state::State;

/// First number of bytes that is reserved for a body.
const FIRST: usize = 4 << 10;

/// Maximum bytes of a refused body that are read and discarded: a client that cannot send its request does not read the
/// refusal.
const MAX_DISCARDED: usize = 64 << 20;

/// A request's body, with its share of the memory for bodies.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    reserved: Reserved,
}

impl Received {
    /// Parses the body off the asynchronous threads. Its share of the memory is kept, for what was parsed.
    pub(crate) async fn parse<T: Send + 'static>(
        self,
        state: &State,
        parse: fn(&[u8], &RequestLimits, &Sampling) -> Result<T, ApiError>,
    ) -> Result<(T, Reserved), ApiError> {
        let Self { bytes, reserved } = self;
        let (limits, sampling) = (state.options.limits.clone(), state.options.sampling.clone());
        let n_bytes = bytes.len();
        let work = move || (parse(&bytes, &limits, &sampling), reserved);
        let parsed = state.lanes.run(n_bytes, work).await;
        let (parsed, reserved) = parsed.map_err(|_| ApiError::failed())?;
        Ok((parsed?, reserved))
    }
}

/// Reads a request's body within its limit, its time and the memory for bodies.
pub(crate) async fn read(request: Request, state: &State) -> Result<Received, ApiError> {
    read_within(request, state, state.options.limits.max_body).await
}

/// As [`read`], with a limit of its own.
pub(crate) async fn read_within(
    request: Request,
    state: &State,
    max_body: usize,
) -> Result<Received, ApiError> {
    let deadline = Instant::now() + state.options.timeouts.body;
    // Such a client sends its body only after it was told to.
    let waits = request.headers().contains_key(header::EXPECT);
    let caller = request.extensions().get::<Caller>();
    let app = caller.and_then(|caller| caller.app()).map(|app| app.name.clone());
    let body = request.into_body();
    let length = body.size_hint();
    let most = length.upper().map_or(max_body, |upper| max_body.min(upper as usize));
    let is_too_large = length.lower() > max_body as u64;
    let mut frames = body.into_data_stream();
    let refusal = if is_too_large {
        ApiError::too_large(max_body)
    } else {
        match timeout_at(deadline, collect(&mut frames, [most, max_body], app, state)).await {
            Ok(Ok(received)) => return Ok(received),
            Ok(Err(refusal)) => refusal,
            Err(_) => return Err(ApiError::too_slow(state.options.timeouts.body)),
        }
    };
    if !(waits && is_too_large) {
        let _ = timeout_at(deadline, discard(&mut frames)).await;
    }
    Err(refusal)
}

/// Reads and discards the body of a request that is refused, within a time.
pub(crate) async fn skip(request: Request, time: Duration) {
    if !request.headers().contains_key(header::EXPECT) {
        let _ = timeout(time, discard(&mut request.into_body().into_data_stream())).await;
    }
}

/// Collects a body. `most`: its length if it is known, else its limit, `max_body`.
async fn collect(
    frames: &mut BodyDataStream,
    [most, max_body]: [usize; 2],
    app: Option<AppName>,
    state: &State,
) -> Result<Received, ApiError> {
    let (mut bytes, mut reserved) = (Vec::new(), state.quota.reserve_none(app));
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| ApiError::broken_body())?;
        let n_bytes = bytes.len() + frame.len();
        if n_bytes > most {
            return Err(ApiError::too_large(max_body));
        }
        if n_bytes > bytes.capacity() {
            let capacity = n_bytes.max(2 * bytes.capacity()).max(FIRST).min(most);
            if !reserved.add(capacity.saturating_sub(bytes.capacity())) {
                return Err(ApiError::out_of_memory(state.options.retry_after));
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&frame);
    }
    Ok(Received { bytes, reserved })
}

/// Reads and discards the body of a request that is refused by its header: a client that cannot send its request does
/// not read the refusal.
pub(crate) async fn refuse(request: Request, state: &State) {
    // Such a client sends its body only after it was told to.
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let deadline = Instant::now() + state.options.timeouts.body;
    let _ = timeout_at(deadline, discard(&mut request.into_body().into_data_stream())).await;
}

async fn discard(frames: &mut BodyDataStream) {
    let mut left = MAX_DISCARDED;
    while let Some(Ok(frame)) = frames.next().await {
        match left.checked_sub(frame.len()) {
            Some(fewer) => left = fewer,
            None => break,
        }
    }
}
