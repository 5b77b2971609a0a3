//! Tests of weights and operations.

mod attention;
mod bank;
mod case;
mod heads;
mod linear;
mod packed;
mod silu_mul;
mod update;
