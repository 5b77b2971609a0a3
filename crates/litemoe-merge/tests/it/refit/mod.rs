//! Tests of the refit.

mod models;
mod proxies;
mod refusals;
mod regression;
