use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the jobs are to stop. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
