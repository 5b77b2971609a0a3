//! JSON artefacts, the files that commands exchange, and other file operations.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use litemoe_adapter::check_checkpoint;
use litemoe_core::{Checksummed, ExpertScores};
use litemoe_files::{TargetLock, check_target_file, read_limited, write_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Maximum bytes of a JSON artefact, far above any model's plan.
const MAX_BYTES: u64 = 1 << 30;

/// Maximum bytes of expert scores, far above any model's sums.
const MAX_SCORES_BYTES: u64 = 8 << 30;

/// Bound of reading a JSON artefact, as the README promises it.
#[cfg(test)]
pub(crate) const BOUND: litemoe_fixtures::fuzz::Bound =
    litemoe_fixtures::fuzz::Bound { fixed: 1 << 14, per_byte: 8, per_value: 160 };

/// Reads a JSON artefact, and checks its checksum if it has one; errors name the file.
pub(crate) fn read<T: Serialize + DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    Checksummed::parse(&read_bytes(path, MAX_BYTES)?)
        .with_context(|| format!("{} is not what it should be", path.display()))
}

/// Reads a JSON file without a checksum; errors name it.
pub(crate) fn read_plain<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_slice(&read_bytes(path, MAX_BYTES)?)
        .with_context(|| format!("{} is not what it should be", path.display()))
}

/// Reads expert scores; errors name the file.
pub(crate) fn read_scores(path: &Path) -> anyhow::Result<ExpertScores> {
    let json = String::from_utf8(read_bytes(path, MAX_SCORES_BYTES)?)
        .with_context(|| format!("cannot read {}", path.display()))?;
    ExpertScores::from_json(&json).with_context(|| path.display().to_string())
}

/// Reads a text file; errors name it.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read_bytes(path, MAX_BYTES)?)
        .with_context(|| format!("cannot read {}", path.display()))
}

fn read_bytes(path: &Path, max_bytes: u64) -> anyhow::Result<Vec<u8>> {
    tracing::debug!(file = %path.display(), "reading");
    read_limited(path, max_bytes).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a JSON artefact with a checksum, see [`Checksummed`], atomically.
pub(crate) fn write_checksummed<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    write(path, &Checksummed(value))
}

/// Writes a JSON artefact atomically.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write_text(path, &text)
}

/// Writes JSON Lines atomically, one value per line.
pub(crate) fn write_lines<T: Serialize>(
    path: &Path,
    values: impl IntoIterator<Item = T>,
) -> anyhow::Result<()> {
    let mut text = String::new();
    for value in values {
        text += &serde_json::to_string(&value)?;
        text.push('\n');
    }
    write_text(path, &text)
}

fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    create_parent(path)?;
    write_file(path, |file| file.write_all(text.as_bytes())).with_context(|| cannot_write(path))?;
    tracing::info!(file = %path.display(), bytes = text.len(), "written");
    Ok(())
}

/// SHA-256 of a file's contents, in hex.
pub(crate) fn sha256(path: &Path) -> anyhow::Result<String> {
    let context = || format!("cannot read {}", path.display());
    let mut file = fs::File::open(path).with_context(context)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).with_context(context)? {
            0 => break,
            n => hasher.update(&block[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Path of `tune`'s checkpoint: next to the adapter's directory, so that an interrupted run leaves no partial adapter.
pub(crate) fn checkpoint_of(adapter: &Path) -> PathBuf {
    let mut name = adapter.file_name().unwrap_or_default().to_owned();
    name.push(".checkpoint");
    adapter.with_file_name(name)
}

/// Checks that what is at the path of a tuning checkpoint, if anything, is one.
pub(crate) fn expect_checkpoint(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    check_checkpoint(path).with_context(|| format!("{} is in the way", path.display()))
}

/// Whether two paths name the same existing file or directory.
pub(crate) fn same(x: &Path, y: &Path) -> bool {
    matches!((fs::canonicalize(x), fs::canonicalize(y)), (Ok(x), Ok(y)) if x == y)
}

/// Checks that an output file replaces at most a regular file, and no input; creates its parent directory.
pub(crate) fn check_file(out: &Path, inputs: &[&Path]) -> anyhow::Result<()> {
    check_target(out, inputs)?;
    create_parent(out)
}

/// As [`check_file`], but creates nothing.
pub(crate) fn check_target(out: &Path, inputs: &[&Path]) -> anyhow::Result<()> {
    expect_no_input(out, inputs)?;
    check_target_file(out).with_context(|| cannot_write(out))
}

/// Locks an output directory for this process, and checks that it replaces no input.
pub(crate) fn lock_dir(out: &Path, inputs: &[&Path]) -> anyhow::Result<TargetLock> {
    expect_no_input(out, inputs)?;
    TargetLock::new(out).with_context(|| cannot_write(out))
}

/// Checks that an output is no input, holds none, and is no file of one. Inputs that do not exist are none.
pub(crate) fn expect_no_input(out: &Path, inputs: &[&Path]) -> anyhow::Result<()> {
    let Ok(found) = fs::canonicalize(out) else { return Ok(()) };
    for input in inputs {
        let Ok(path) = fs::canonicalize(input) else { continue };
        if path.starts_with(&found) || (found.is_file() && found.starts_with(&path)) {
            bail!("{} would replace the input {}", out.display(), input.display());
        }
    }
    Ok(())
}

fn cannot_write(out: &Path) -> String {
    format!("cannot write {}", out.display())
}

/// Creates the parent directory of `path`.
pub(crate) fn create_parent(path: &Path) -> anyhow::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::create_dir_all(parent)
            .with_context(|| format!("cannot create the folder {}", parent.display())),
        None => Ok(()),
    }
}

/// Total bytes of a directory's files.
pub(crate) fn folder_bytes(dir: &Path) -> anyhow::Result<u64> {
    let cannot = || format!("cannot read {}", dir.display());
    let files = fs::read_dir(dir).with_context(cannot)?;
    let sizes = files.map(|file| Ok(file?.metadata()?.len())).collect::<std::io::Result<Vec<_>>>();
    Ok(sizes.with_context(cannot)?.iter().sum())
}

#[cfg(test)]
mod tests {
    use litemoe_core::Plan;

    use super::*;

    type Read = fn(&Path) -> anyhow::Result<()>;

    /// Sparse files: their lengths are refused, they are not read.
    #[test]
    fn files_above_their_limits_are_not_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file.json");
        let file = fs::File::create(&path).expect("a file");
        let readers: [(u64, Read); 4] = [
            (8 << 30, |path| read_scores(path).map(drop)),
            (1 << 30, |path| read::<Plan>(path).map(drop)),
            (1 << 30, |path| read_plain::<Vec<String>>(path).map(drop)),
            (1 << 30, |path| read_text(path).map(drop)),
        ];
        for (limit, read) in readers {
            file.set_len(limit + 1).expect("a length");
            let mut error = String::new();
            let allocated = allocation_counter::measure(|| {
                error = read(&path).map_or_else(|error| format!("{error:#}"), |()| String::new());
            });
            let shown = path.display();
            assert_eq!(error, format!("cannot read {shown}: it has more than {limit} bytes"));
            assert!(allocated.bytes_max < 1 << 16, "{} bytes", allocated.bytes_max);
        }
    }
}
