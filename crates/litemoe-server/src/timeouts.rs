use std::time::Duration;

/// Time-outs of connections.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Time for the header of a request, from the connection's begin or the previous answer's end: so also the idle time
    /// of a connection. The connection is closed.
    pub header: Duration,
    /// Time for the body of a request; 408.
    pub body: Duration,
    /// Time for an upload of files; 408.
    pub upload: Duration,
    /// Time in which a client reads nothing of its answer. The connection is closed.
    pub write: Duration,
    /// Time for the running requests to end when the server stops. Then their connections are closed.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    /// 10 minutes for an upload, 30 seconds for each other.
    fn default() -> Self {
        let time = Duration::from_secs(30);
        let upload = Duration::from_secs(600);
        Self { header: time, body: time, upload, write: time, shutdown: time }
    }
}
