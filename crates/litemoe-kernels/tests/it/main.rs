//! What this crate's weights and writers promise.

mod bank;
