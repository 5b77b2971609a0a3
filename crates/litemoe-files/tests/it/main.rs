//! Tests of memory maps, staged writes and locks.

mod lock;
mod mapped;
mod siblings;
mod staged;
mod targets;
