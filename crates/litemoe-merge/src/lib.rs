#![doc = include_str!("../README.md")]

mod alignment;
mod apply;
mod budget;
mod error;
mod evidence;
mod matching;
mod merge;
mod partition;
mod plan;
mod refit;
mod report;

pub use alignment::align;
pub use apply::{merged_expert, merged_experts};
pub use budget::kept_per_layer;
pub use error::MergeError;
pub use matching::match_to_centroids;
pub use partition::{Partition, partition};
pub use plan::make_plan;
pub use refit::{
    DownChange, GatedInner, LayerRefit, RefitOptions, RefitSums, Solution, TakeLayer, refit, solve,
    sum_bytes,
};
pub use report::{LayerReport, PlanReport};
