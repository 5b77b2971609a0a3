use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::guard::Guard;
use crate::listen::listen;
use crate::switch::Switch;
use crate::{ServerError, ServerOptions, api};

/// A listener that answers also while its [server](crate::Server) is being made, such as while the model is loaded: `/health` with 503
/// and `{"status": "loading"}`, and all other paths with 503, `Retry-After` and the code `loading`. Connections stay open
/// when the server is there.
///
/// Dropping it ends the listening at once.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    switch: Switch,
    stop: oneshot::Sender<()>,
    task: Task,
}

/// A task that ends when it is dropped.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Listening {
    /// Begins to listen, in a task of the current Tokio runtime. Of the options, those of connections, hosts and origins
    /// hold before the server is there, those of connections also later.
    ///
    /// # Errors
    /// If an allowed host or origin is none, or the listener's address cannot be read.
    pub fn new(listener: TcpListener, options: &ServerOptions) -> Result<Self, ServerError> {
        let address = listener.local_addr().map_err(|reason| ServerError::Serve { reason })?;
        let guard = Guard::new(options)?.at(Some(address.ip()));
        let switch = Switch::new(api::loading(guard, options));
        let (stop, stopped) = oneshot::channel();
        let (options, routes) = (options.clone(), switch.clone());
        let task = tokio::spawn(async move {
            // If the sender is dropped, the task is, too.
            let stopped = async { drop(stopped.await) };
            listen(listener, routes, &options, stopped).await;
        });
        tracing::info!(%address, "listening, but not ready yet");
        Ok(Self { address, switch, stop, task: Task(task) })
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, requests have these routes. Only the first ones count.
    pub(crate) fn open(&self, routes: Router) {
        self.switch.open(routes);
    }

    /// Accepts no new requests and returns when all running ones are answered, or
    /// [`Timeouts::shutdown`](crate::Timeouts::shutdown) later.
    pub async fn stop(mut self) {
        let _ = self.stop.send(());
        let _ = (&mut self.task.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
