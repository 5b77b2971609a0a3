use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::Stream;

/// Maximum bytes that a parser holds: boundaries and headers of parts, and what came with them.
const MAX_HELD: u64 = 256 << 10;

/// Body for a parser that would read all that has come, and would keep it until it finds what it looks for: it gets one
/// frame at a time, and an error when it holds too much.
pub(super) struct PacedBody {
    frames: BodyDataStream,
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
    pub(super) fn new(body: Body) -> (Body, Taken) {
        let taken = Taken::default();
        let frames = body.into_data_stream();
        let paced = Self { frames, n_read: 0, taken: taken.clone(), was_ready: false };
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
        let frame = ready!(Pin::new(&mut self.frames).poll_next(context));
        self.was_ready = true;
        Poll::Ready(match frame {
            Some(Ok(bytes)) => {
                self.n_read += bytes.len() as u64;
                match self.n_read - self.taken.0.load(Ordering::Relaxed) > MAX_HELD {
                    true => Some(Err(io::Error::other("a part's header is too long").into())),
                    false => Some(Ok(bytes)),
                }
            }
            other => other.map(|frame| frame.map_err(Into::into)),
        })
    }
}
