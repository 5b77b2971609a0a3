//! Tests of memory maps, limited reading, staged writes and locks.

mod limited;
mod lock;
mod mapped;
mod siblings;
mod staged;
mod targets;
mod unnamed;
