//! What this crate's weights and operations promise.

mod bank;
mod case;
mod linear;
mod silu_mul;
mod update;
