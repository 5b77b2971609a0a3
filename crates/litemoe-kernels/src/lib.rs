#![doc = include_str!("../README.md")]

mod bank;
mod dispatch;
mod hidden_act;
mod linear;
mod pack;
mod parallel;
mod primitive;
mod silu_mul;

pub use bank::{ExpertAdapters, ExpertBank, ExpertVisit, ExpertWork};
pub use hidden_act::HiddenAct;
pub use linear::LinearWeight;
pub use parallel::parallel_map;
pub use silu_mul::silu_mul;
