#![doc = include_str!("../README.md")]

mod api;
mod engine;
mod error;
mod generation;
mod options;
mod registry;
mod server;
mod state;

pub use error::ServerError;
pub use options::ServerOptions;
pub use server::Server;
