//! Tests of weights and operations.

mod bank;
mod case;
mod linear;
mod silu_mul;
mod update;
