use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use litemoe_registry::{App, Usage as Recorded};

use super::meter::{Meter, Room};
use super::recorder::{Recorder, Used};
use crate::usage::Usage;

/// An app's request that is within its limits. Its usage is recorded when the last clone is dropped, however the request
/// ends.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Admitted>);

#[derive(Debug)]
struct Admitted {
    app: Arc<App>,
    meter: Arc<Meter>,
    room: Room,
    recorder: Recorder,
    used: Mutex<Recorded>,
}

impl Admission {
    pub(super) fn new(app: Arc<App>, meter: Arc<Meter>, room: Room, recorder: Recorder) -> Self {
        let used = Mutex::new(Recorded { requests: 1, ..Recorded::default() });
        Self(Arc::new(Admitted { app, meter, room, recorder, used }))
    }

    /// Share of the engine's time.
    pub(crate) fn weight(&self) -> NonZeroU32 {
        self.0.app.settings.weight
    }

    /// Maximum bytes of KV caches that are kept for the app between requests.
    pub(crate) fn max_cache(&self) -> Option<u64> {
        self.0.app.settings.cache_bytes
    }

    /// What was left of the limits per minute when the request began.
    pub(crate) fn room(&self) -> Room {
        self.0.room
    }

    /// Charges tokens to the app.
    pub(crate) fn charge(&self, usage: Usage) {
        let (n_prompt, n_completion) = (usage.n_prompt as u64, usage.n_completion as u64);
        {
            let mut used = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.prompt_tokens += n_prompt;
            used.cached_tokens += usage.n_cached as u64;
            used.completion_tokens += n_completion;
        }
        self.0.meter.charge(n_prompt + n_completion);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.meter.leave();
        let used = *self.used.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (app, meter) = (self.app.name.clone(), self.meter.clone());
        self.recorder.record(Used { app, meter, usage: used });
    }
}
