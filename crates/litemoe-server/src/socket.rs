use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, Interest, Join, ReadBuf, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep;

/// Time between looks for the end of a client's bytes while some of them are unread.
const LOOK: Duration = Duration::from_millis(200);

/// Reading side of a socket, shared by HTTP and the watch for the client's end.
#[derive(Debug, Clone)]
pub(crate) struct Reader(Arc<OwnedReadHalf>);

/// Splits a socket into the stream for HTTP and the reader to watch.
pub(crate) fn split(stream: TcpStream) -> (Join<Reader, OwnedWriteHalf>, Reader) {
    let (reader, writer) = stream.into_split();
    let reader = Reader(Arc::new(reader));
    (join(reader.clone(), writer), reader)
}

impl Reader {
    /// Waits until the client sends no more, also while bytes before that are unread. HTTP/1 reads no further while it has
    /// bytes of a next request, so that it does not see the end.
    pub(crate) async fn closed(&self) {
        while self.0.ready(Interest::READABLE).await.is_ok_and(|ready| !ready.is_read_closed()) {
            sleep(LOOK).await;
        }
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream: &TcpStream = (*self.0).as_ref();
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read(buffer.initialize_unfilled()) {
                Ok(n_bytes) => {
                    buffer.advance(n_bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
