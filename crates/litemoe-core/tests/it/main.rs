//! Properties of the records.

mod packing;
