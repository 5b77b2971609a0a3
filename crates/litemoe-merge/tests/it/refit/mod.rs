//! What must hold of a refit.

mod models;
mod proxies;
mod refusals;
mod regression;
