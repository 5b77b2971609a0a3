//! Constrained decoding: texts of random models under a grammar.

mod babble;
mod calls;
mod choices;
mod json;
mod random_schemas;
mod refusals;
mod speed;
mod validator;
