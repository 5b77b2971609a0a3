//! Property tests of the records.

mod exact_sum;
mod layers;
mod noise;
mod packing;
mod plan_options;
mod scores;
