use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tower_http::add_extension::AddExtension;

use crate::socket;
use crate::switch::Switch;
use crate::{ServerOptions, Timeouts};

/// Maximum bytes of a request's header, and of each connection's buffers. A longer header gets 431.
const MAX_BUFFER: usize = 32 << 10;

/// Accepts connections and serves their requests until `shutdown` is ready, then finishes the running requests; those
/// that take too long are cancelled. At the maximum number of connections, further ones wait to be accepted.
///
/// A client that closes its side of a connection is gone, and its requests are cancelled.
pub(crate) async fn listen(
    mut listener: TcpListener,
    routes: Switch,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()>,
) {
    let http = http(&options.timeouts);
    let connections = GracefulShutdown::new();
    let max_connections = options.max_connections.get().min(Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(max_connections));
    let (drained, ending) = watch::channel(());
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
        let (stream, reader) = socket::split(stream);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(options.timeouts.write));
        let routes = routes.clone();
        let service = service_fn(move |request| {
            let service = AddExtension::new(routes.now(), ConnectInfo(peer));
            TowerToHyperService::new(service).call(request)
        });
        let io = TokioIo::new(Box::pin(stream));
        let connection = http.serve_connection(io, service);
        let connection = connections.watch(connection);
        let mut ending = ending.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                served = connection => if let Err(error) = served {
                    tracing::debug!(%error, %peer, "a connection broke off");
                },
                () = reader.closed() => tracing::debug!(%peer, "the client closed a connection"),
                _ = ending.changed() => tracing::warn!(%peer, "a connection was cut at the end"),
            }
            drop(slot);
        });
    }
    drop(listener);
    let _ = timeout(options.timeouts.shutdown, connections.shutdown()).await;
    drop(drained);
}

fn http(timeouts: &Timeouts) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeouts.header);
    http.max_buf_size(MAX_BUFFER).max_header_size(MAX_BUFFER);
    http
}
