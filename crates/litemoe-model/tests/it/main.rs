//! The model crate from outside: truths that hold for every input, then outputs of the reference implementation, then
//! what is refused.

mod bad_input;
mod checkpoint;
mod edit;
mod forward;
mod golden;
mod gradient;
mod mixture;
mod proxy;
mod setup;
