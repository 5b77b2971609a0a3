//! What must hold of plans, their parts, and the experts they merge.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alignment;
mod budget;
mod experts;
mod matching;
mod merging;
mod partitioning;
mod planning;
mod refit;
