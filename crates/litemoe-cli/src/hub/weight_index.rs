//! Lengths of shards against the length of all tensors that their index states.

use std::path::Path;

use anyhow::{Context, bail};
use litemoe_files::read_limited;
use serde::Deserialize;

/// Maximum bytes of a safetensors header, a limit of the format's own library, and of the length before it.
const MAX_HEADER: u64 = 100_000_000 + 8;

/// Maximum bytes of an index, as where it is opened.
const MAX_INDEX: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    /// Bytes of all tensors; some programs write it as a float.
    total_size: Option<f64>,
}

/// Checks the lengths of the shards against the index's `total_size`, if it states one.
///
/// # Errors
/// When the shards are too short for the tensors, or longer than tensors and headers can be.
pub(super) fn check_total(index: &Path, shards: &[u64]) -> anyhow::Result<()> {
    let json = read_limited(index, MAX_INDEX)
        .with_context(|| format!("cannot read {}", index.display()))?;
    let read: Index = serde_json::from_slice(&json)
        .with_context(|| format!("{} is not what it should be", index.display()))?;
    let Some(total) = read.metadata.total_size else { return Ok(()) };
    let found = shards.iter().fold(0_u64, |sum, &bytes| sum.saturating_add(bytes));
    let headers = MAX_HEADER.saturating_mul(shards.len() as u64);
    #[expect(clippy::cast_precision_loss, reason = "lengths below 2^53 are exact")]
    let (most, least) = (found as f64, found.saturating_sub(headers) as f64);
    if !(least..=most).contains(&total) {
        bail!(
            "{} states {total} bytes of tensors, but the hub lists {found} bytes in {} files",
            index.display(),
            shards.len()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artefact::BOUND;

    #[test]
    fn fuzzed_indices() {
        let json = br#"{"metadata": {"total_size": 300}, "weight_map": {"a": "1", "b": "2"}}"#;
        let folder = tempfile::tempdir().expect("a folder");
        let index = folder.path().join("index.json");
        let mut read = 0;
        litemoe_fixtures::fuzz::fuzz_json(&[json.to_vec()], |_, document| {
            std::fs::write(&index, document).expect("written");
            let mut is_right = false;
            let allocated = allocation_counter::measure(|| {
                is_right = check_total(&index, &[100, 200]).is_ok();
            });
            BOUND.check(document, allocated.bytes_max);
            read += usize::from(is_right);
        });
        assert!(read > 0);
    }
}
