use std::num::NonZeroUsize;
use std::time::Duration;

/// Server options.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Request queue: maximum number of waiting requests; further ones get 503.
    pub max_queued: NonZeroUsize,
    /// `Retry-After` of a 503 answer; whole seconds.
    pub retry_after: Duration,
    /// Idle time of a server-sent event stream before `: ping` is sent.
    pub keep_alive: Duration,
}

impl Default for ServerOptions {
    /// 64 waiting requests, retry after 1 second, ping after 15 seconds.
    fn default() -> Self {
        Self {
            max_queued: NonZeroUsize::new(64).expect("64 is not zero"),
            retry_after: Duration::from_secs(1),
            keep_alive: Duration::from_secs(15),
        }
    }
}
