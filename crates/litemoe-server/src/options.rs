use std::num::NonZeroUsize;
use std::time::Duration;

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// How many requests may wait for the one that runs; further ones are answered with 503.
    pub max_queued: NonZeroUsize,
    /// When a client that was answered with 503 should try again; whole seconds.
    pub retry_after: Duration,
    /// How long a stream stays silent before `: ping` is sent.
    pub keep_alive: Duration,
}

impl Default for ServerOptions {
    /// 64 waiting requests, a second, 15 seconds.
    fn default() -> Self {
        Self {
            max_queued: NonZeroUsize::new(64).expect("64 is not zero"),
            retry_after: Duration::from_secs(1),
            keep_alive: Duration::from_secs(15),
        }
    }
}
