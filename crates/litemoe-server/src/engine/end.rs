use std::panic::{AssertUnwindSafe, catch_unwind};

use litemoe_text::TextError;

/// How a request ends.
pub(super) enum End {
    Finished,
    Gone,
    Unread,
    Late,
    Error(TextError),
    Panicked,
}

/// Runs work for one request, which must not affect others if it panics.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, TextError>) -> Result<T, End> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(End::Error),
        Err(_) => Err(End::Panicked),
    }
}
