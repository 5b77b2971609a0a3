use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use litemoe_registry::Settings;
use tokio::time::Instant;

use super::bucket::{Bucket, Left};

/// What an app uses at present.
#[derive(Debug, Default)]
pub(super) struct Meter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: Bucket,
    tokens: Bucket,
    n_running: u32,
    /// Tokens that the registry does not know yet.
    n_unrecorded: u64,
}

/// What is left of an app's limits per minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Room {
    pub(crate) requests: Option<Left>,
    pub(crate) tokens: Option<Left>,
}

/// A limit that an app has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverLimit {
    /// Requests per minute.
    Requests { limit: u64, wait: Duration },
    /// Tokens per minute.
    Tokens { limit: u64, wait: Duration },
    /// Requests at the same time.
    Concurrency { limit: u32 },
    /// Tokens per day.
    Day { limit: u64, wait: Duration },
}

impl Meter {
    /// Counts a request that begins, if it is within the limits per minute and of requests at the same time. A request's
    /// tokens are not known before: the limits of tokens are those of what was used by earlier ones.
    pub(super) fn enter(
        &self,
        settings: &Settings,
        now: Instant,
    ) -> Result<Room, (OverLimit, Room)> {
        let mut state = self.lock();
        let requests = settings.requests_per_minute.map(NonZeroU32::get).map(u64::from);
        let tokens = settings.tokens_per_minute.map(NonZeroU64::get);
        state.requests.fill(requests, now);
        state.tokens.fill(tokens, now);
        if let Some(limit) = settings.concurrency.map(NonZeroU32::get)
            && state.n_running >= limit
        {
            return Err((OverLimit::Concurrency { limit }, state.room(requests, tokens)));
        }
        if let (Some(limit), Some(wait)) = (requests, state.requests.wait(requests)) {
            return Err((OverLimit::Requests { limit, wait }, state.room(requests, tokens)));
        }
        if let (Some(limit), Some(wait)) = (tokens, state.tokens.wait(tokens)) {
            return Err((OverLimit::Tokens { limit, wait }, state.room(requests, tokens)));
        }
        state.requests.take(1);
        state.n_running += 1;
        Ok(state.room(requests, tokens))
    }

    /// Counts tokens.
    pub(super) fn charge(&self, n_tokens: u64) {
        let mut state = self.lock();
        state.tokens.take(n_tokens);
        state.n_unrecorded = state.n_unrecorded.saturating_add(n_tokens);
    }

    /// A request has ended.
    pub(super) fn leave(&self) {
        let mut state = self.lock();
        state.n_running = state.n_running.saturating_sub(1);
    }

    /// The registry knows these tokens now.
    pub(super) fn recorded(&self, n_tokens: u64) {
        let mut state = self.lock();
        state.n_unrecorded = state.n_unrecorded.saturating_sub(n_tokens);
    }

    pub(super) fn n_unrecorded(&self) -> u64 {
        self.lock().n_unrecorded
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method leaves the state half changed when it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn room(&self, requests: Option<u64>, tokens: Option<u64>) -> Room {
        Room { requests: self.requests.left(requests), tokens: self.tokens.left(tokens) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(requests: u32, tokens: u64, concurrency: u32) -> Settings {
        Settings {
            requests_per_minute: NonZeroU32::new(requests),
            tokens_per_minute: NonZeroU64::new(tokens),
            concurrency: NonZeroU32::new(concurrency),
            ..Settings::default()
        }
    }

    #[test]
    fn each_limit_holds_and_a_refused_request_counts_for_none() {
        let (meter, now) = (Meter::default(), Instant::now());
        let limits = settings(3, 100, 2);
        let room = meter.enter(&limits, now).unwrap();
        assert_eq!((room.requests.unwrap().left, room.tokens.unwrap().left), (2, 100));
        meter.enter(&limits, now).unwrap();
        for _ in 0..5 {
            let (over, _) = meter.enter(&limits, now).unwrap_err();
            assert_eq!(over, OverLimit::Concurrency { limit: 2 });
        }
        meter.leave();
        meter.enter(&limits, now).unwrap();
        meter.leave();
        let (over, _) = meter.enter(&limits, now).unwrap_err();
        let wait = Duration::from_secs(20);
        assert_eq!(over, OverLimit::Requests { limit: 3, wait });
        meter.charge(110);
        let later = now + Duration::from_secs(60);
        meter.enter(&limits, later).unwrap();
        meter.leave();
        meter.charge(100);
        let (over, _) = meter.enter(&limits, later).unwrap_err();
        assert!(matches!(over, OverLimit::Tokens { limit: 100, .. }), "{over:?}");
    }

    #[test]
    fn without_limits_everything_enters() {
        let (meter, now) = (Meter::default(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(meter.enter(&Settings::default(), now), Ok(Room::default()));
            meter.charge(1 << 40);
        }
    }
}
