//! Integration tests of the model crate: invariants for every input, outputs of the reference implementation, and
//! refused input.

#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::needless_range_loop)] // a test may panic

mod adapted;
mod bad_input;
mod cache_dtype;
mod checkpoint;
mod edit;
mod forward;
mod fuse;
mod fuzz;
mod golden;
mod gradient;
mod leftovers;
mod loaded_bytes;
mod memory;
mod mixture;
mod noise;
mod outline;
mod parts;
mod proxy;
mod quantise;
mod router_bias;
mod setup;
mod step;
mod streamed;
