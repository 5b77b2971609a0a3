use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tokio::sync::oneshot;

/// Maximum bytes of a short input.
const SHORT: usize = 64 << 10;

/// Number of short inputs processed at the same time.
const N_SHORT: usize = 2;

type Work = Box<dyn FnOnce() + Send>;

/// Work on inputs, off the asynchronous threads. Long inputs are processed one at a time, which bounds their memory, and
/// short ones do not wait for them. The threads are always the same, because an allocator keeps freed memory per
/// thread.
#[derive(Debug)]
pub(crate) struct Lanes {
    short: Lane,
    long: Lane,
}

/// Threads with a common queue; they end with the lane.
#[derive(Debug)]
struct Lane {
    queue: mpsc::Sender<Work>,
}

/// The work has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

impl Lanes {
    pub(crate) fn start() -> io::Result<Self> {
        Ok(Self {
            short: Lane::start("short inputs", N_SHORT)?,
            long: Lane::start("long inputs", 1)?,
        })
    }

    /// Runs `work`, which processes `bytes`, when its lane has room. Dropping the future before that cancels it; work
    /// that has begun keeps its place until it ends.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let lane = if bytes <= SHORT { &self.short } else { &self.long };
        let (sender, result) = oneshot::channel();
        let work = move || {
            if !sender.is_closed() {
                let result = catch_unwind(AssertUnwindSafe(work)).map_err(|_| Panicked);
                // The client may have disconnected.
                let _ = sender.send(result);
            }
        };
        lane.queue.send(Box::new(work)).map_err(|_| Panicked)?;
        result.await.unwrap_or(Err(Panicked))
    }
}

impl Lane {
    fn start(name: &str, n_threads: usize) -> io::Result<Self> {
        let (queue, works) = mpsc::channel::<Work>();
        let works = Arc::new(Mutex::new(works));
        for _ in 0..n_threads {
            let works = works.clone();
            let next = move || works.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let run = move || {
                while let Ok(work) = next() {
                    work();
                }
            };
            thread::Builder::new().name(name.to_owned()).spawn(run)?;
        }
        Ok(Self { queue })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_short_input_does_not_wait_for_a_long_one() {
        let lanes = Lanes::start().unwrap();
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
    async fn cancelled_work_that_has_not_begun_is_not_done() {
        let lanes = Lanes::start().unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let (done, dones) = mpsc::channel();
        let mut first = Box::pin(lanes.run(SHORT + 1, move || wait.recv()));
        assert!((&mut first).now_or_never().is_none());
        assert!(lanes.run(SHORT + 1, move || done.send(())).now_or_never().is_none());
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert_eq!(lanes.run(SHORT + 1, || 1).await.unwrap(), 1);
        assert!(dones.recv().is_err());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_frees_the_lane() {
        let lanes = Lanes::start().unwrap();
        for _ in 0..3 {
            assert_eq!(
                lanes.run(SHORT + 1, || panic!("as the test wants")).await,
                Err::<(), _>(Panicked)
            );
        }
        assert_eq!(lanes.run(SHORT + 1, || 1).await.unwrap(), 1);
    }
}
