//! What this crate's weights, operations and writers promise.

mod bank;
mod case;
mod linear;
mod mapped;
mod silu_mul;
mod staged;
mod update;
