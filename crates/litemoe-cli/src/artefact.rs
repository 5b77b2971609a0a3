//! The small JSON files that pass between commands.

use std::fs;
use std::path::{Path, PathBuf};

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

/// Where `tune` keeps its checkpoint: beside the adapter's folder, so that an interrupted run leaves no half adapter.
pub(crate) fn checkpoint_of(adapter: &Path) -> PathBuf {
    let mut name = adapter.file_name().unwrap_or_default().to_owned();
    name.push(".checkpoint");
    adapter.with_file_name(name)
}

/// Whether two paths lead to the same file or folder.
pub(crate) fn same(x: &Path, y: &Path) -> bool {
    matches!((fs::canonicalize(x), fs::canonicalize(y)), (Ok(x), Ok(y)) if x == y)
}

/// Makes the folder that `path` is to stand in.
pub(crate) fn create_parent(path: &Path) -> anyhow::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::create_dir_all(parent)
            .with_context(|| format!("cannot create the folder {}", parent.display())),
        None => Ok(()),
    }
}
