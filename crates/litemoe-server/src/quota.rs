use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum bytes of a small request.
const SMALL: usize = 64 << 10;

/// Quota of bytes in memory, shared by all requests. A part of it is kept for small ones, so that slow senders of large
/// ones do not keep them out.
#[derive(Debug, Clone)]
pub(crate) struct Quota {
    left: Arc<Semaphore>,
    /// Bytes for small requests alone.
    kept: usize,
}

/// The bytes that one request has reserved; dropping it returns them.
#[derive(Debug)]
pub(crate) struct Reserved {
    quota: Quota,
    permit: Option<OwnedSemaphorePermit>,
}

impl Quota {
    /// Quota of `bytes`, of which a request may reserve up to `max` when there are no others.
    pub(crate) fn new(bytes: usize, max: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        let kept = bytes.saturating_sub(max).min(bytes / 4);
        Self { left: Arc::new(Semaphore::new(bytes)), kept }
    }

    pub(crate) fn reserve_none(&self) -> Reserved {
        Reserved { quota: self.clone(), permit: None }
    }
}

impl Reserved {
    /// Reserves further bytes; `false` if there are not as many left.
    pub(crate) fn add(&mut self, bytes: usize) -> bool {
        let Quota { left, kept } = &self.quota;
        let reserved = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let kept = if reserved.saturating_add(bytes) <= SMALL { 0 } else { *kept };
        if left.available_permits() < bytes.saturating_add(kept) {
            return false;
        }
        let more =
            u32::try_from(bytes).ok().map(|bytes| left.clone().try_acquire_many_owned(bytes));
        let Some(Ok(more)) = more else { return false };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bytes_come_back() {
        let quota = Quota::new(10, 10);
        let mut first = quota.reserve_none();
        assert!(first.add(4) && first.add(3));
        let mut second = quota.reserve_none();
        assert!(!second.add(4) && second.add(3));
        assert_eq!(quota.left.available_permits(), 0);
        drop(first);
        assert_eq!(quota.left.available_permits(), 7);
        assert!(!second.add(usize::MAX));
    }

    #[test]
    fn a_quarter_is_for_small_requests() {
        let quota = Quota::new(16 * SMALL, 3 * SMALL);
        let mut large: Vec<_> = (0..4).map(|_| quota.reserve_none()).collect();
        assert!(large.iter_mut().all(|request| request.add(3 * SMALL)));
        assert!(!quota.reserve_none().add(SMALL + 1));
        assert!(!large[0].add(1));
        let mut small: Vec<_> = (0..4).map(|_| quota.reserve_none()).collect();
        assert!(small.iter_mut().all(|request| request.add(SMALL / 2) && request.add(SMALL / 2)));
        assert!(!quota.reserve_none().add(1));
    }

    #[test]
    fn the_largest_request_fits_when_it_is_alone() {
        let quota = Quota::new(10 * SMALL, 10 * SMALL);
        assert!(quota.reserve_none().add(10 * SMALL));
        let quota = Quota::new(10 * SMALL, 9 * SMALL);
        assert!(quota.reserve_none().add(9 * SMALL));
    }
}
