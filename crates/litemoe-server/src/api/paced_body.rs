use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::Stream;

/// Maximum bytes that a parser holds: boundaries and headers of parts, and what came with them.
const MAX_HELD: u64 = 256 << 10;

/// Maximum bytes that it gets at once.
const MAX_FRAME: usize = 64 << 10;

/// Body for a parser that would read all that has come, and would keep it until it finds what it looks for: it gets
/// little at a time, and an error when it holds too much.
pub(super) struct PacedBody {
    frames: BodyDataStream,
    /// Of the last frame.
    rest: Bytes,
    n_read: u64,
    taken: Taken,
    /// Whether the last poll gave a frame.
    was_ready: bool,
}

/// Number of bytes that the parser has given on.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(Arc<AtomicU64>);

impl Taken {
    pub(super) fn add(&self, n_bytes: u64) {
        self.0.fetch_add(n_bytes, Ordering::Relaxed);
    }
}

impl PacedBody {
    pub(super) fn over(body: Body) -> (Body, Taken) {
        let taken = Taken::default();
        let frames = body.into_data_stream();
        let rest = Bytes::new();
        let paced = Self { frames, rest, n_read: 0, taken: taken.clone(), was_ready: false };
        (Body::from_stream(paced), taken)
    }
}

impl Stream for PacedBody {
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.was_ready) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.frames).poll_next(context)) {
                Some(Ok(bytes)) => self.rest = bytes,
                other => return Poll::Ready(other.map(|frame| frame.map_err(Into::into))),
            }
        }
        self.was_ready = true;
        let n_bytes = self.rest.len().min(MAX_FRAME);
        let bytes = self.rest.split_to(n_bytes);
        self.n_read += n_bytes as u64;
        Poll::Ready(Some(match self.n_read - self.taken.0.load(Ordering::Relaxed) > MAX_HELD {
            true => Err(io::Error::other("a part's header is too long").into()),
            false => Ok(bytes),
        }))
    }
}
