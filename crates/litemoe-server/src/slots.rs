use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use litemoe_registry::AppName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of apps that are worked on at the same time.
#[derive(Debug)]
pub(crate) struct Slots {
    max_per_app: usize,
    free: Arc<Semaphore>,
    apps: Arc<Mutex<HashMap<AppName, usize>>>,
}

/// A request that may be worked on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    app: AppName,
    apps: Arc<Mutex<HashMap<AppName, usize>>>,
    _permit: OwnedSemaphorePermit,
}

/// Who has too many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// The app itself.
    Own { limit: u32 },
    /// All apps together.
    All,
}

impl Slots {
    /// Slots for so many requests of one app, and of all apps.
    pub(crate) fn new(max_per_app: usize, max_all: usize) -> Self {
        Self { max_per_app, free: Arc::new(Semaphore::new(max_all)), apps: Arc::default() }
    }

    pub(crate) fn begin(&self, app: &AppName) -> Result<Slot, TooMany> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let n_running = apps.get(app).copied().unwrap_or(0);
        if n_running >= self.max_per_app {
            return Err(TooMany::Own { limit: self.max_per_app as u32 });
        }
        let permit = self.free.clone().try_acquire_owned().map_err(|_| TooMany::All)?;
        apps.insert(app.clone(), n_running + 1);
        drop(apps);
        Ok(Slot { app: app.clone(), apps: self.apps.clone(), _permit: permit })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        match apps.get_mut(&self.app) {
            Some(n_running) if *n_running > 1 => *n_running -= 1,
            _ => {
                apps.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_its_own_and_all_have_a_maximum() {
        let (slots, app) = (Slots::new(2, 16), |name: &str| name.parse::<AppName>().unwrap());
        let first = slots.begin(&app("a")).unwrap();
        let _second = slots.begin(&app("a")).unwrap();
        assert_eq!(slots.begin(&app("a")).unwrap_err(), TooMany::Own { limit: 2 });
        let others: Vec<_> =
            (2..16).map(|n| slots.begin(&app(&format!("b{n}"))).unwrap()).collect();
        assert_eq!(slots.begin(&app("c")).unwrap_err(), TooMany::All);
        drop(first);
        drop(others);
        let _again = slots.begin(&app("a")).unwrap();
        assert_eq!(slots.begin(&app("a")).unwrap_err(), TooMany::Own { limit: 2 });
        drop((_second, _again));
        assert!(slots.apps.lock().unwrap().is_empty());
    }
}
