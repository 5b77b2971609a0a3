//! Tests of the server through its HTTP API.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod adapters;
mod alone;
mod batching;
mod calls;
mod chat;
mod client;
mod completions;
mod connections;
mod disconnecting;
mod foundation;
mod isolation;
mod keys;
mod limits;
mod listening;
mod log;
mod logprobs;
mod models;
mod parameters;
mod queue;
mod quotas;
mod sampling;
mod shop;
mod stream;
mod structured;
mod timing;
mod tools;
mod toy;
