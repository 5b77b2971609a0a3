//! Apps: who asks, what it may use, and how much of it.

mod adapters;
mod admission;
mod bucket;
mod meter;
mod recorder;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use litemoe_registry::{App, AppName, Registry, RegistryError};
use tokio::time::Instant;

pub(crate) use adapters::{AdapterBounds, LoadError, Loader, StoredAdapters};
pub(crate) use admission::Admission;
pub(crate) use bucket::Left;
pub(crate) use meter::{OverLimit, Room};

use meter::Meter;
use recorder::RecorderThread;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// The apps of a registry, and what each uses. Its methods may wait for the disk.
#[derive(Debug)]
pub(crate) struct Apps {
    registry: Registry,
    pub(crate) adapters: Arc<StoredAdapters>,
    /// Whether an app was ever added, as far as is known.
    has_apps: AtomicBool,
    meters: Mutex<HashMap<AppName, Arc<Meter>>>,
    recorder: RecorderThread,
}

/// Who a key belongs to.
#[derive(Debug)]
pub(crate) enum KeyOwner {
    App(Arc<App>),
    /// Nobody: no keys are asked for, because there has never been an app.
    Open,
    /// The key is not valid, or there is none.
    Unknown,
}

impl Apps {
    pub(crate) fn start(registry: Registry, adapters: StoredAdapters) -> io::Result<Self> {
        let recorder = RecorderThread::start(registry.clone())?;
        let (adapters, has_apps) = (Arc::new(adapters), AtomicBool::new(false));
        Ok(Self { registry, adapters, has_apps, meters: Mutex::default(), recorder })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether keys are asked for: from the first app on, for good.
    pub(crate) fn asks_for_keys(&self) -> Result<bool, RegistryError> {
        if !self.has_apps.load(Ordering::Relaxed) && self.registry.has_apps()? {
            self.has_apps.store(true, Ordering::Relaxed);
        }
        Ok(self.has_apps.load(Ordering::Relaxed))
    }

    pub(crate) fn authenticate(&self, key: Option<&str>) -> Result<KeyOwner, RegistryError> {
        if !self.asks_for_keys()? {
            return Ok(KeyOwner::Open);
        }
        let app = key.map(|key| self.registry.authenticate(key)).transpose()?.flatten();
        Ok(app.map_or(KeyOwner::Unknown, |app| KeyOwner::App(Arc::new(app))))
    }

    /// Admits a request of an app if it is within the app's limits. The tokens of a day are those of ended and running
    /// requests; a running one may exceed the budget, and the next is refused.
    pub(crate) fn admit(
        &self,
        app: Arc<App>,
    ) -> Result<Result<Admission, (OverLimit, Room)>, RegistryError> {
        let meter = self.meter(&app.name);
        if let Some(limit) = app.settings.tokens_per_day {
            // In this order, so that what is recorded meanwhile is counted twice rather than not at all.
            let n_unrecorded = meter.n_unrecorded();
            let used = self.registry.usage_today(&app.name)?.tokens();
            if used.saturating_add(n_unrecorded) >= limit.get() {
                let over = OverLimit::Day { limit: limit.get(), wait: until_midnight() };
                return Ok(Err((over, Room::default())));
            }
        }
        let room = meter.enter(&app.settings, Instant::now());
        Ok(room.map(|room| Admission::new(app, meter, room, self.recorder.recorder())))
    }

    fn meter(&self, app: &AppName) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.entry(app.clone()).or_default().clone()
    }
}

/// Time until the next day begins (UTC).
fn until_midnight() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    Duration::from_secs(DAY - now % DAY)
}
