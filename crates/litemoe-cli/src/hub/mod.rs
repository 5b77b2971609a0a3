//! Models by their names on the Hugging Face Hub, and the cache in which everyone keeps them.

#[cfg(feature = "hub")]
mod access;
mod cache;
mod id;
#[cfg(feature = "hub")]
mod pull;
#[cfg(feature = "hub")]
mod transfer;

use std::path::PathBuf;

pub(crate) use self::cache::{locate, snapshot_id};
pub(crate) use self::id::ModelId;
#[cfg(feature = "hub")]
pub(crate) use self::pull::pull;

/// What a pull has come to.
pub(crate) struct Pulled {
    /// The folder with the model's files.
    pub(crate) snapshot: PathBuf,
    /// Bytes that came over the network.
    pub(crate) fetched: u64,
}

#[cfg(not(feature = "hub"))]
pub(crate) fn pull(_: &ModelId) -> anyhow::Result<Pulled> {
    anyhow::bail!("this build cannot fetch models: build with --features hub")
}

/// An environment variable; one that is empty counts as not set.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
