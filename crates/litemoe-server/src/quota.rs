use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use litemoe_registry::AppName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum bytes of a small request.
const SMALL: usize = 64 << 10;

/// Quota of bytes in memory, shared by all requests. A part of it is kept for small ones, so that slow senders of large
/// ones do not keep them out, and an app has a part at most.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    left: Arc<Semaphore>,
    /// Bytes for small requests alone.
    kept: usize,
    /// Bytes of an app at most.
    max_app: usize,
    apps: Arc<Mutex<HashMap<AppName, usize>>>,
}

/// The bytes that one request has reserved; dropping it returns them.
#[derive(Debug)]
pub(crate) struct Reserved {
    quota: Quota,
    app: Option<AppName>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Quota {
    /// Quota of `bytes`, of which a request may reserve up to `max` when there are no others, and an app's requests a quarter,
    /// but `max` at least.
    pub(crate) fn new(bytes: usize, max: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        let kept = bytes.saturating_sub(max).min(bytes / 4);
        let (left, max_app) = (Arc::new(Semaphore::new(bytes)), max.max(bytes / 4));
        Self { left, kept, max_app, apps: Arc::default() }
    }

    /// Bytes that an app may reserve.
    pub(crate) fn max_app(&self) -> usize {
        self.max_app
    }

    /// Nothing yet, of a request of an app or of nobody.
    pub(crate) fn reserve_none(&self, app: Option<AppName>) -> Reserved {
        Reserved { quota: self.clone(), app, permit: None }
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<AppName, usize>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Reserves further bytes; `false` if there are not as many left.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        let Quota { left, kept, max_app, .. } = &self.quota;
        let mut apps = self.quota.apps();
        let of_app = self.app.as_ref().map_or(0, |app| apps.get(app).copied().unwrap_or(0));
        if of_app.saturating_add(bytes) > *max_app && self.app.is_some() {
            return false;
        }
        let kept = if self.bytes().saturating_add(bytes) <= SMALL { 0 } else { *kept };
        if left.available_permits() < bytes.saturating_add(kept) {
            return false;
        }
        let more =
            u32::try_from(bytes).ok().map(|bytes| left.clone().try_acquire_many_owned(bytes));
        let Some(Ok(more)) = more else { return false };
        if let Some(app) = &self.app {
            apps.insert(app.clone(), of_app + bytes);
        }
        drop(apps);
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let Some(app) = &self.app else { return };
        let (bytes, mut apps) = (self.bytes(), self.quota.apps());
        match apps.get_mut(app) {
            Some(of_app) if *of_app > bytes => *of_app -= bytes,
            _ => {
                apps.remove(app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bytes_come_back() {
        let quota = Quota::new(10, 10);
        let mut first = quota.reserve_none(None);
        assert!(first.add(4) && first.add(3));
        let mut second = quota.reserve_none(None);
        assert!(!second.add(4) && second.add(3));
        assert_eq!(quota.left.available_permits(), 0);
        drop(first);
        assert_eq!(quota.left.available_permits(), 7);
        assert!(!second.add(usize::MAX));
    }

    #[test]
    fn a_quarter_is_for_small_requests() {
        let quota = Quota::new(16 * SMALL, 3 * SMALL);
        let mut large: Vec<_> = (0..4).map(|_| quota.reserve_none(None)).collect();
        assert!(large.iter_mut().all(|request| request.add(3 * SMALL)));
        assert!(!quota.reserve_none(None).add(SMALL + 1));
        assert!(!large[0].add(1));
        let mut small: Vec<_> = (0..4).map(|_| quota.reserve_none(None)).collect();
        assert!(small.iter_mut().all(|request| request.add(SMALL / 2) && request.add(SMALL / 2)));
        assert!(!quota.reserve_none(None).add(1));
    }

    #[test]
    fn the_largest_request_fits_when_it_is_alone() {
        let quota = Quota::new(10 * SMALL, 10 * SMALL);
        assert!(quota.reserve_none(None).add(10 * SMALL));
        let quota = Quota::new(10 * SMALL, 9 * SMALL);
        assert!(quota.reserve_none(None).add(9 * SMALL));
    }

    #[test]
    fn an_app_has_a_quarter_and_leaves_the_rest_to_others() {
        let quota = Quota::new(16 * SMALL, SMALL);
        let app = |name: &str| quota.reserve_none(Some(name.parse().unwrap()));
        let mut own: Vec<_> = (0..4).map(|_| app("a")).collect();
        assert!(own.iter_mut().all(|request| request.add(SMALL)));
        assert!(!app("a").add(1) && app("b").add(SMALL));
        own.pop();
        assert!(app("a").add(SMALL));
        drop(own);
        assert!(quota.apps().is_empty());
        assert_eq!(quota.left.available_permits(), 16 * SMALL);
    }
}
