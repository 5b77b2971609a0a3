use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use litemoe_core::{Budget, Criterion};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use crate::slots::Slots;

/// Requests for proxies of all apps at the same time.
const MAX_PROXIES: usize = 16;

/// Proxies of the served foundation: extracts one from an app's scores, and mounts adapters that were tuned on one. Both
/// may take minutes, and are called on threads that may block.
pub trait Proxies: Send + Sync {
    /// Writes the plan and the proxy of an app's scores.
    ///
    /// # Errors
    /// Scores of another foundation or with values that are not finite, and whatever else keeps the proxy from being
    /// made.
    fn extract(&self, request: &ProxyRequest<'_>, cancelled: &Cancelled) -> Result<(), ProxyError>;

    /// Mounts a tuned adapter on the foundation, if it makes the foundation better on validation rows (the guard).
    ///
    /// # Errors
    /// An adapter that does not fit the foundation or the plan, changes nothing, or makes the foundation worse.
    fn mount(
        &self,
        request: &MountRequest<'_>,
        cancelled: &Cancelled,
    ) -> Result<MountedProvenance, ProxyError>;
}

/// A proxy to extract.
#[derive(Debug, Clone, Copy)]
pub struct ProxyRequest<'a> {
    /// File of the scores.
    pub scores: &'a Path,
    /// Byte budget of the proxy's experts; `None` for the default.
    pub budget: Option<Budget>,
    /// Criterion that ranks the experts; `None` for the default.
    pub score: Option<Criterion>,
    /// File of the plan, to be written.
    pub plan: &'a Path,
    /// Directory of the proxy, to be written.
    pub proxy: &'a Path,
}

/// An adapter to mount.
#[derive(Debug, Clone, Copy)]
pub struct MountRequest<'a> {
    /// Directory of the adapter, as it was tuned on the proxy.
    pub adapter: &'a Path,
    /// Plan of the proxy.
    pub plan: &'a Path,
    /// Validation rows of the app; `None` if it sends none.
    pub validation: Option<&'a Path>,
    /// Directory of the mounted adapter, to be written.
    pub out: &'a Path,
}

/// Provenance of a mounted adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct MountedProvenance {
    /// Hash of the plan.
    pub plan: Option<String>,
    /// What was measured on the validation rows, as JSON.
    pub metrics: Value,
}

/// Why there is no proxy, or no mounted adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// What the app sent is refused; the message is for the app, so it must not name files of this machine.
    Refused(String),
    /// The work was cancelled.
    Cancelled,
    /// The disk of this machine is full, or cannot be written to; it is in the log.
    Storage,
    /// Something is wrong with this machine; it is in the log.
    Failed,
}

/// Whether a request's work is to end, because its client left. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Whether it is.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Cancels the work when the result is dropped.
    pub(crate) fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }
}

/// Cancels work when it is dropped.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(Cancelled);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// The proxies of a server, of which one is worked on at a time.
pub(crate) struct ProxyDesk {
    proxies: Arc<dyn Proxies>,
    turn: Arc<Semaphore>,
    /// Requests for proxies, until they are sent.
    pub(crate) slots: Slots,
}

impl ProxyDesk {
    pub(crate) fn new(proxies: impl Proxies + 'static) -> Self {
        let slots = Slots::new(1, MAX_PROXIES);
        Self { proxies: Arc::new(proxies), turn: Arc::new(Semaphore::new(1)), slots }
    }

    /// Waits for its turn, and works on a thread that may block. The work is cancelled when the future is dropped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Proxies, &Cancelled) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let turn = self.turn.clone().acquire_owned();
        let turn = turn.await.expect("the semaphore is never closed");
        let (proxies, cancelled) = (self.proxies.clone(), Cancelled::default());
        let _cancel = cancelled.on_drop();
        let work = move || {
            let done = work(&*proxies, &cancelled);
            drop(turn);
            done
        };
        spawn_blocking(work).await
    }
}

impl fmt::Debug for ProxyDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyDesk")
    }
}
