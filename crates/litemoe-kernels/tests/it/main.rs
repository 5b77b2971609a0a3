//! Tests of weights and operations.

mod attention;
mod bank;
mod case;
mod cross_entropy;
mod heads;
mod linear;
mod packed;
mod silu_mul;
mod update;
