//! What must hold of scores: properties on a toy model, and goldens of the reference implementation.

mod golden;
mod properties;
mod refusals;
mod toy;
