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
mod ending;
mod files;
mod foreign_fields;
mod foundation;
mod isolation;
mod keys;
mod limits;
mod listening;
mod loading;
mod log;
mod logprobs;
mod models;
mod openapi;
mod page;
mod parameters;
mod proxies;
mod queue;
mod quotas;
mod sampling;
mod shop;
mod stream;
mod structured;
mod timing;
mod tokenize;
mod tools;
mod toy;
mod tuning;
