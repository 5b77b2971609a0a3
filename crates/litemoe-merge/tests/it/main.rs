//! What must hold of plans, their parts, and the experts they merge.

mod alignment;
mod budget;
mod experts;
mod matching;
mod merging;
mod partitioning;
mod planning;
