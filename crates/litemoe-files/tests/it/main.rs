//! What mapped files and staged writes promise.

mod mapped;
mod staged;
