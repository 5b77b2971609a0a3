//! Properties of the records.

mod noise;
mod packing;
