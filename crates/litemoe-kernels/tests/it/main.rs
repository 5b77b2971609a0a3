//! Tests of weights and operations.

mod attention;
mod bank;
mod case;
mod linear;
mod packed;
mod silu_mul;
mod update;
