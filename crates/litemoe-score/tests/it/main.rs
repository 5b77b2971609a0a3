//! Tests of expert scores: properties on a toy model, and golden values of the reference implementation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fuzz;
mod golden;
mod private;
mod properties;
mod refusals;
mod shards;
mod toy;
