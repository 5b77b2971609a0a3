use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

/// Maximum bytes of a short input.
const SHORT: usize = 64 << 10;

/// Number of short inputs processed at the same time.
const N_SHORT: usize = 2;

/// Blocking work, off the asynchronous threads. Long inputs are processed one at a time, which bounds their memory, and
/// short ones do not wait for them.
#[derive(Debug)]
pub(crate) struct Lanes {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self { short: Arc::new(Semaphore::new(N_SHORT)), long: Arc::new(Semaphore::new(1)) }
    }

    /// Runs `work`, which processes `bytes`, when its lane has room. Dropping the future before that cancels it; work
    /// that has begun keeps its place until it ends.
    ///
    /// # Errors
    /// If `work` panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let lane = if bytes <= SHORT { &self.short } else { &self.long };
        let place = lane.clone().acquire_owned().await.expect("a lane is never closed");
        let work = move || {
            let _place = place;
            work()
        };
        spawn_blocking(work).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_short_input_does_not_wait_for_a_long_one() {
        let lanes = Lanes::new();
        let (go, wait) = mpsc::channel::<()>();
        let mut long = Box::pin(lanes.run(SHORT + 1, move || wait.recv()));
        assert!((&mut long).now_or_never().is_none());
        assert_eq!(lanes.run(SHORT, || "short").await.unwrap(), "short");
        let mut second = Box::pin(lanes.run(SHORT + 1, || "long"));
        assert!((&mut second).now_or_never().is_none());
        go.send(()).unwrap();
        long.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap(), "long");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_lane() {
        let lanes = Lanes::new();
        for _ in 0..3 {
            assert!(lanes.run(SHORT + 1, || panic!("as the test wants")).await.is_err());
        }
        assert_eq!(lanes.run(SHORT + 1, || 1).await.unwrap(), 1);
    }
}
