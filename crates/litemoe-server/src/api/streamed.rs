use std::io;

use axum::body::Body;
use futures::stream::try_unfold;
use tokio::task::spawn_blocking;

/// Bytes that are read at once.
pub(crate) const CHUNK: u64 = 64 << 10;

/// Body of the chunks that `next` reads, up to an empty one. No thread waits for the client: each chunk is read when it is
/// asked for, off the asynchronous threads.
pub(crate) fn streamed<R: Send + 'static>(
    source: R,
    next: fn(&mut R) -> io::Result<Vec<u8>>,
) -> Body {
    Body::from_stream(try_unfold(source, move |mut source| async move {
        let read = spawn_blocking(move || -> io::Result<_> {
            let chunk = next(&mut source)?;
            Ok((!chunk.is_empty()).then_some((chunk, source)))
        });
        read.await.map_err(io::Error::other)?
    }))
}
