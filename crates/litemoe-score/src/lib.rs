#![doc = include_str!("../README.md")]

mod batches;
mod error;
mod measurement;
mod score;
mod shard;
mod statistics;

pub use error::{ScoreError, Warning};
pub use measurement::Measurement;
pub use score::{About, ScoreOptions, Scored, score};
pub use shard::ShardIndex;
