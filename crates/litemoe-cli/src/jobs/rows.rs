//! Rows of a job, written to its folder.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use litemoe_registry::{Job, JobSpec, Registry};

use super::folder::Folder;

/// Training rows without validation rows: `customize` splits them.
pub(super) const SINGLE: &str = "training_file.jsonl";

/// Folder of training rows and validation rows, of which every second one is a test row.
pub(super) const SPLITS: &str = "rows";

/// Names of the splits' files.
pub(super) const TRAIN: &str = "rows/train.jsonl";
pub(super) const VALIDATION: &str = "rows/validation.jsonl";
pub(super) const TEST: &str = "rows/test.jsonl";

/// Writes the rows of a job. Returns the path, relative to the folder, that `customize` takes them by.
pub(super) fn write(
    registry: &Registry,
    job: &Job,
    spec: &JobSpec,
    folder: &Folder,
) -> anyhow::Result<&'static str> {
    let open = |id: &str| registry.open_file(&job.app, id);
    let training = open(&spec.training_file)?;
    let Some(validation) = &spec.validation_file else {
        copy(training, &folder.path().join(SINGLE))?;
        return Ok(SINGLE);
    };
    let [train, validated, tested] = [TRAIN, VALIDATION, TEST].map(|name| folder.path().join(name));
    folder.make(SPLITS)?;
    copy(training, &train)?;
    let mut rows = BufReader::new(open(validation)?);
    expect_lines(&mut rows)?;
    let halved = halve(rows, &mut create(&validated)?, &mut create(&tested)?);
    if halved.context("cannot write the validation rows")? < 2 {
        bail!("validation_file needs at least 2 different rows: half of them are held out");
    }
    Ok(SPLITS)
}

fn copy(mut from: File, to: &Path) -> anyhow::Result<()> {
    let copied = File::create(to).and_then(|mut to| io::copy(&mut from, &mut to));
    copied.with_context(|| format!("cannot write {}", to.display()))?;
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(BufWriter::new(file))
}

/// Refuses rows that are not on lines of their own, by how they begin.
fn expect_lines(rows: &mut impl BufRead) -> anyhow::Result<()> {
    let start = rows.fill_buf().context("cannot read the validation rows")?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    match start.first() {
        Some(b'{') => Ok(()),
        _ => bail!("validation_file must be JSON Lines: an object per line"),
    }
}

/// Writes the different lines to one of two files in turn, equal ones to the same, and blank ones in their places to the
/// other, so that line numbers stay. Returns the number of different lines.
fn halve(
    mut rows: impl BufRead,
    first: &mut impl Write,
    second: &mut impl Write,
) -> io::Result<usize> {
    let (hasher, mut halves, mut line) = (RandomState::new(), HashMap::new(), Vec::new());
    while rows.read_until(b'\n', &mut line)? > 0 {
        let text = line.trim_ascii();
        if !text.is_empty() {
            let n_rows = halves.len();
            let is_second = match halves.entry(hasher.hash_one(text)) {
                Entry::Occupied(half) => *half.get(),
                Entry::Vacant(half) => *half.insert(n_rows % 2 == 1),
            };
            if is_second { second.write_all(text)? } else { first.write_all(text)? }
        }
        first.write_all(b"\n")?;
        second.write_all(b"\n")?;
        line.clear();
    }
    first.flush()?;
    second.flush()?;
    Ok(halves.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_lines_are_refused() {
        for lines in [&b"{}"[..], b"\xef\xbb\xbf\n {}\n"] {
            expect_lines(&mut &*lines).expect("lines");
        }
        for other in [&b""[..], b"[{}]", b"prompt,completion\na,b"] {
            assert!(expect_lines(&mut &*other).is_err());
        }
    }

    #[test]
    fn every_second_row_is_in_the_other_half_at_its_line() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let n_rows = halve(&b"a\n\nb\r\n a\nc"[..], &mut first, &mut second).expect("halved");
        assert_eq!(n_rows, 3);
        assert_eq!(String::from_utf8(first).expect("text"), "a\n\n\na\nc\n");
        assert_eq!(String::from_utf8(second).expect("text"), "\n\nb\n\n\n");
    }
}
