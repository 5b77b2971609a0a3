use std::time::Duration;

use tokio::time::Instant;

/// Token bucket: a limit per minute. It holds at most a minute's worth, and refills evenly.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// What is left; below 0 if more was used than there was.
    level: f64,
    /// When it was last filled; `None` while there is no limit.
    at: Option<Instant>,
}

/// How much of a limit per minute is left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Left {
    pub(crate) limit: u64,
    pub(crate) left: u64,
    /// Time until the bucket is full.
    pub(crate) reset: Duration,
}

impl Bucket {
    /// Fills the bucket up to now; a new one is full.
    pub(super) fn fill(&mut self, limit: Option<u64>, now: Instant) {
        let Some(limit) = limit else {
            self.at = None;
            return;
        };
        let limit = limit as f64;
        self.level = match self.at {
            Some(at) => {
                (self.level + limit / 60.0 * now.duration_since(at).as_secs_f64()).min(limit)
            }
            None => limit,
        };
        self.at = Some(now);
    }

    pub(super) fn take(&mut self, n: u64) {
        self.level -= n as f64;
    }

    /// Time until the bucket holds at least 1; `None` if it does.
    pub(super) fn wait(&self, limit: Option<u64>) -> Option<Duration> {
        let missing = 1.0 - self.level;
        if missing > 0.0 { time(missing, limit?) } else { None }
    }

    pub(super) fn left(&self, limit: Option<u64>) -> Option<Left> {
        let limit = limit?;
        let left = self.level.max(0.0) as u64;
        Some(Left { limit, left, reset: time(limit as f64 - self.level, limit)? })
    }
}

/// Time in which so much is filled.
fn time(amount: f64, limit: u64) -> Option<Duration> {
    Duration::try_from_secs_f64(amount.max(0.0) * 60.0 / limit as f64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Option<u64> = Some(30);

    #[test]
    fn a_bucket_refills_evenly_and_to_its_limit() {
        let (mut bucket, begin) = (Bucket::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        bucket.fill(LIMIT, begin);
        bucket.take(30);
        assert_eq!(bucket.wait(LIMIT), Some(Duration::from_secs(2)));
        bucket.fill(LIMIT, after(1));
        assert_eq!(bucket.wait(LIMIT), Some(Duration::from_secs(1)));
        bucket.fill(LIMIT, after(2));
        assert_eq!(bucket.wait(LIMIT), None);
        let left = bucket.left(LIMIT).unwrap();
        assert_eq!((left.left, left.reset), (1, Duration::from_secs(58)));
        bucket.fill(LIMIT, after(1000));
        assert_eq!(bucket.left(LIMIT).unwrap().left, 30);
    }

    #[test]
    fn what_was_used_too_much_is_waited_for() {
        let (mut bucket, begin) = (Bucket::default(), Instant::now());
        bucket.fill(LIMIT, begin);
        bucket.take(60);
        assert_eq!(bucket.wait(LIMIT), Some(Duration::from_secs(62)));
        assert_eq!(bucket.left(LIMIT).unwrap().left, 0);
    }

    #[test]
    fn a_limit_that_is_set_again_begins_full_and_a_lower_one_holds_at_once() {
        let (mut bucket, begin) = (Bucket::default(), Instant::now());
        bucket.fill(None, begin);
        bucket.take(1_000_000);
        assert_eq!((bucket.wait(None), bucket.left(None)), (None, None));
        bucket.fill(LIMIT, begin);
        assert_eq!(bucket.left(LIMIT).unwrap().left, 30);
        bucket.fill(Some(5), begin);
        assert_eq!(bucket.left(Some(5)).unwrap().left, 5);
    }
}
