#![doc = include_str!("../README.md")]

mod api;
mod apps;
mod caller;
mod client;
mod engine;
mod error;
mod hosts;
mod identity;
mod lanes;
mod limits;
mod listen;
mod listening;
mod metrics;
mod models;
mod options;
mod origins;
mod prompt;
mod queue;
mod quota;
mod secret;
mod server;
mod socket;
mod state;
mod switch;
mod timeouts;
mod turns;
mod uploads;
mod usage;

pub use error::ServerError;
pub use limits::RequestLimits;
pub use listening::Listening;
pub use options::ServerOptions;
pub use secret::Secret;
pub use server::Server;
pub use timeouts::Timeouts;
