//! Hugging Face Hub: model ids, the shared cache, and fetching models.

#[cfg(feature = "hub")]
mod access;
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod digest;
mod id;
#[cfg(feature = "hub")]
mod listing;
#[cfg(feature = "hub")]
mod pull;
#[cfg(feature = "hub")]
mod remote;
#[cfg(feature = "hub")]
mod repo_cache;
#[cfg(feature = "hub")]
mod transfer;
#[cfg(feature = "hub")]
mod url;
#[cfg(feature = "hub")]
mod watchdog;
#[cfg(feature = "hub")]
mod weight_index;

use std::path::PathBuf;

pub(crate) use self::cache::{locate, snapshot_id};
pub(crate) use self::id::ModelId;
#[cfg(feature = "hub")]
pub(crate) use self::pull::pull;

/// Result of a pull.
pub(crate) struct Pulled {
    /// Snapshot directory with the model's files.
    pub(crate) snapshot: PathBuf,
    /// Bytes transferred over the network.
    pub(crate) fetched: u64,
}

#[cfg(not(feature = "hub"))]
pub(crate) fn pull(_: &ModelId) -> anyhow::Result<Pulled> {
    anyhow::bail!("this build cannot fetch models: build with --features hub")
}

/// Environment variable; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
