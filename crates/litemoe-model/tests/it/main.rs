//! The model crate from outside: truths that hold for every input, then outputs of the reference implementation, then
//! what is refused.

#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::needless_range_loop)] // a test may panic

mod adapted;
mod bad_input;
mod checkpoint;
mod edit;
mod forward;
mod fuzz;
mod golden;
mod gradient;
mod memory;
mod mixture;
mod noise;
mod parts;
mod proxy;
mod router_bias;
mod setup;
mod step;
mod streamed;
