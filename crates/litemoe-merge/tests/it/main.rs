//! Tests of plans, their parts, and merged experts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alignment;
mod budget;
mod experts;
mod fuzz;
mod matching;
mod merging;
mod partitioning;
mod planning;
mod refit;
