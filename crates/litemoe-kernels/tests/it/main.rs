//! Tests of weights and operations.

mod bank;
mod case;
mod linear;
mod packed;
mod silu_mul;
mod update;
