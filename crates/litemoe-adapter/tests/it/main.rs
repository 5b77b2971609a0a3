//! Tests of litemoe-adapter on a tiny qwen3_moe; `../goldens/make.py` creates the golden files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod checkpoints;
mod divergences;
mod evaluating;
mod experts;
mod fixture;
mod freshness;
mod fused;
mod fuzz;
mod goldens;
mod guarding;
mod intervals;
mod mounting;
mod peft;
mod peft_features;
mod pools;
mod routers;
mod stack_families;
mod stacks;
mod summaries;
mod transfer;
mod tuning;
