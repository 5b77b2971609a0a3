use std::io;
use std::net::IpAddr;

use litemoe_core::RouterBiasError;
use litemoe_registry::RegistryError;
use thiserror::Error;

/// Errors of creating and running a server.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ServerError {
    #[error("two models are called `{name}`")]
    SameName { name: String },
    #[error("a model's name is empty")]
    NoName,
    #[error("the tokenizer has {tokenizer} tokens, but the model only {model}")]
    Vocabulary { tokenizer: usize, model: usize },
    #[error("the adapter `{name}` does not fit the model: {source}")]
    Routing { name: String, source: RouterBiasError },
    #[error("`{value}` is not a host: a name or an address, with or without a port, or `*`")]
    AllowedHost { value: String },
    #[error("`{value}` is not an origin, such as `https://app.example`, nor `*`")]
    AllowedOrigin { value: String },
    #[error(
        "a body of {max_body} bytes, the maximum, does not fit the {max_in_flight} bytes for all bodies"
    )]
    Bodies { max_body: usize, max_in_flight: usize },
    #[error("cannot start a thread: {reason}")]
    Thread { reason: io::Error },
    #[error(
        "without apps there are no keys, and only this machine may connect, but {address} is not a loopback address"
    )]
    Open { address: IpAddr },
    #[error("the registry of apps cannot be read: {source}")]
    Registry { source: RegistryError },
    #[error("cannot serve: {reason}")]
    Serve { reason: io::Error },
}
