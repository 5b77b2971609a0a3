//! Time limit of a request, which also ends reads that the timeouts of ureq restart.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ureq::Agent;

/// Closes the connections of an agent once there is no progress for too long. The agent is of no use afterwards.
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    patience: Duration,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// `None` while no request runs.
    deadline: Option<Instant>,
    expired: bool,
    dropped: bool,
}

impl Watchdog {
    /// Starts the thread that watches the agent.
    pub(super) fn of(agent: Agent, patience: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        thread::spawn(move || watched.watch(agent));
        Self { shared, patience }
    }

    /// Starts or restarts the time limit: there is progress.
    pub(super) fn restart(&self) {
        self.shared.set(|state| state.deadline = Some(Instant::now() + self.patience));
    }

    /// Ends the time limit: no request runs.
    pub(super) fn stop(&self) {
        self.shared.set(|state| state.deadline = None);
    }

    /// Whether the time limit has passed.
    pub(super) fn expired(&self) -> bool {
        self.shared.lock().expired
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.set(|state| state.dropped = true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn watch(&self, agent: Agent) {
        let mut state = self.lock();
        while !state.dropped {
            let Some(deadline) = state.deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.expired = true;
                drop(state);
                agent.shutdown();
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
