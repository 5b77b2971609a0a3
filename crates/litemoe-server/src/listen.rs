use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower_http::add_extension::AddExtension;

use crate::{ServerOptions, Timeouts};

/// Maximum bytes of a request's header, and of each connection's buffers. A longer header gets 431.
const MAX_BUFFER: usize = 32 << 10;

/// Accepts connections and serves their requests until `shutdown` is ready, then finishes the running requests. At the
/// maximum number of connections, further ones wait to be accepted.
pub(crate) async fn listen(
    mut listener: TcpListener,
    router: Router,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()>,
) {
    let http = http(&options.timeouts);
    let connections = GracefulShutdown::new();
    let max_connections = options.max_connections.get().min(Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(max_connections));
    let mut shutdown = pin!(shutdown);
    loop {
        let accept = async {
            let slot = slots.clone().acquire_owned().await.expect("the slots are never closed");
            (slot, Listener::accept(&mut listener).await)
        };
        let (slot, (stream, peer)) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        // Tokens are sent as they come. Without the option they are only later.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(options.timeouts.write));
        let service = AddExtension::new(router.clone(), ConnectInfo(peer));
        let io = TokioIo::new(Box::pin(stream));
        let connection = http.serve_connection(io, TowerToHyperService::new(service));
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "a connection broke off");
            }
            drop(slot);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

fn http(timeouts: &Timeouts) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeouts.header);
    http.max_buf_size(MAX_BUFFER).max_header_size(MAX_BUFFER);
    http
}
