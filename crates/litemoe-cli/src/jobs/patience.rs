use std::thread;
use std::time::{Duration, Instant};

use litemoe_registry::RegistryError;

use super::stop::Stop;

/// How long a change of the registry that fails is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience<'a> {
    pub(super) stop: &'a Stop,
    /// Time between two tries.
    pub(super) pause: Duration,
    /// Time of all tries; `None` for as long as the service runs.
    pub(super) time: Option<Duration>,
}

impl Patience<'_> {
    /// Tries until it succeeds, fails for a reason that does not pass, or the time is over or the service ends.
    pub(super) fn run(
        self,
        mut store: impl FnMut() -> Result<(), RegistryError>,
    ) -> Result<(), RegistryError> {
        let begin = Instant::now();
        loop {
            let error = match store() {
                Err(error) if may_pass(&error) => error,
                stored => return stored,
            };
            if self.stop.is_set() || self.time.is_some_and(|time| begin.elapsed() >= time) {
                return Err(error);
            }
            tracing::error!(%error, "trying again");
            thread::park_timeout(self.pause);
        }
    }
}

/// Whether what failed can succeed later: another process writes, or the disk or the system fails.
pub(super) fn may_pass(error: &RegistryError) -> bool {
    use RegistryError::{Busy, Database, Io, Random, ReadOnly, Storage};
    matches!(
        error,
        Busy | Storage { .. } | Io { .. } | ReadOnly { .. } | Database { .. } | Random { .. }
    )
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn errors() -> [RegistryError; 4] {
        let reason = || "no reason".to_owned();
        [
            RegistryError::Busy,
            RegistryError::Storage { reason: reason() },
            RegistryError::ReadOnly { reason: reason() },
            RegistryError::Io { path: "registry".into(), reason: io::Error::other("no reason") },
        ]
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        let stop = Stop::default();
        let patience = Patience { stop: &stop, pause: NONE, time: None };
        let mut errors = Vec::from(errors());
        patience.run(|| errors.pop().map_or(Ok(()), Err)).expect("stored at last");
        let mut n_tries = 0;
        let no_job = patience.run(|| {
            n_tries += 1;
            Err(RegistryError::NoJob { id: "job-1".to_owned() })
        });
        assert!(matches!(no_job, Err(RegistryError::NoJob { .. })));
        assert_eq!(n_tries, 1);
    }

    #[test]
    fn patience_ends_with_its_time_or_the_service() {
        let stop = Stop::default();
        let time = Duration::from_millis(20);
        let patience = Patience { stop: &stop, pause: NONE, time: Some(time) };
        let begin = Instant::now();
        assert!(patience.run(|| Err(RegistryError::Busy)).is_err());
        assert!(begin.elapsed() >= time);
        let mut n_tries = 0;
        let stopped = Patience { time: None, ..patience }.run(|| {
            n_tries += 1;
            stop.set();
            Err(RegistryError::Busy)
        });
        assert!(matches!(stopped, Err(RegistryError::Busy)));
        assert_eq!(n_tries, 1);
    }
}
