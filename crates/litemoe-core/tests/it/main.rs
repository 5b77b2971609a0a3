//! Property tests of the records.

mod batching;
mod budget;
mod checksummed;
mod exact_sum;
mod generation;
mod layers;
mod names;
mod noise;
mod packing;
mod plan_options;
mod sampling_rule;
mod scores;
