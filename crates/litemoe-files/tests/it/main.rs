//! Tests of memory maps and staged writes.

mod mapped;
mod staged;
