#![doc = include_str!("../README.md")]

mod batches;
mod error;
mod measurement;
mod options;
mod private;
mod score;
mod shard;
mod statistics;

pub use error::{ScoreError, Warning};
pub use measurement::Measurement;
pub use options::ScoreOptions;
pub use private::score_private;
pub use score::{About, Scored, score};
pub use shard::ShardIndex;
