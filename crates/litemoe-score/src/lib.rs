#![doc = include_str!("../README.md")]

mod affinity;
mod agreement;
mod batches;
mod criteria;
mod error;
mod measurement;
mod outputs;
mod score;
mod sums;

pub use agreement::check;
pub use error::{ScoreError, Warning};
pub use measurement::Measurement;
pub use score::{About, ScoreOptions, Scored, score};
