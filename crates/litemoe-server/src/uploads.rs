use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use litemoe_registry::AppName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Uploads of one app at the same time.
const MAX_PER_APP: usize = 2;

/// Uploads of all apps at the same time.
const MAX_ALL: usize = 16;

/// Uploads that are being received.
#[derive(Debug)]
pub(crate) struct Uploads {
    free: Arc<Semaphore>,
    apps: Arc<Mutex<HashMap<AppName, usize>>>,
}

/// An upload that may be received, until it is dropped.
#[derive(Debug)]
pub(crate) struct Upload {
    app: AppName,
    apps: Arc<Mutex<HashMap<AppName, usize>>>,
    _permit: OwnedSemaphorePermit,
}

/// Who has too many uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TooMany {
    /// The app itself.
    Own { limit: u32 },
    /// All apps together.
    All,
}

impl Uploads {
    pub(crate) fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_ALL)), apps: Arc::default() }
    }

    pub(crate) fn begin(&self, app: &AppName) -> Result<Upload, TooMany> {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let n_running = apps.get(app).copied().unwrap_or(0);
        if n_running >= MAX_PER_APP {
            return Err(TooMany::Own { limit: MAX_PER_APP as u32 });
        }
        let permit = self.free.clone().try_acquire_owned().map_err(|_| TooMany::All)?;
        apps.insert(app.clone(), n_running + 1);
        drop(apps);
        Ok(Upload { app: app.clone(), apps: self.apps.clone(), _permit: permit })
    }
}

impl Drop for Upload {
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
        let (uploads, app) = (Uploads::new(), |name: &str| name.parse::<AppName>().unwrap());
        let first = uploads.begin(&app("a")).unwrap();
        let _second = uploads.begin(&app("a")).unwrap();
        assert_eq!(uploads.begin(&app("a")).unwrap_err(), TooMany::Own { limit: 2 });
        let others: Vec<_> =
            (2..MAX_ALL).map(|n| uploads.begin(&app(&format!("b{n}"))).unwrap()).collect();
        assert_eq!(uploads.begin(&app("c")).unwrap_err(), TooMany::All);
        drop(first);
        drop(others);
        let _again = uploads.begin(&app("a")).unwrap();
        assert_eq!(uploads.begin(&app("a")).unwrap_err(), TooMany::Own { limit: 2 });
        drop((_second, _again));
        assert!(uploads.apps.lock().unwrap().is_empty());
    }
}
