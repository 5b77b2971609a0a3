//! Properties of the records.

mod layers;
mod noise;
mod packing;
