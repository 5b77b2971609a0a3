//! The small JSON files that pass between commands.

use std::fs;
use std::path::Path;

use anyhow::Context;
use litemoe_kernels::write_file;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a JSON artefact; the error names the file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not what it should be", path.display()))
}

/// Writes a JSON artefact whole or not at all.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    create_parent(path)?;
    write_file(path, |file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes the folder that `path` is to stand in.
pub(crate) fn create_parent(path: &Path) -> anyhow::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::create_dir_all(parent)
            .with_context(|| format!("cannot create the folder {}", parent.display())),
        None => Ok(()),
    }
}
