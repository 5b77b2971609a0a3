//! Splits of a single file of rows.

use std::collections::HashMap;
use std::path::Path;

use anyhow::bail;
use litemoe_text::{Row, RowContent, RowFile};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::splits::Split;
use crate::written_dir::WrittenDir;

/// Share of the rows for validation, and for test.
const HELD_OUT: usize = 10;

/// Splits a file's rows by the seed into `train.jsonl`, `validation.jsonl` and `test.jsonl` of `dir`, which are not
/// written yet.
pub(super) fn split(file: &Path, dir: &Path, seed: u64) -> anyhow::Result<WrittenDir> {
    let rows = RowFile::read(file)?.rows;
    let Some(parts) = parts(&rows, seed) else {
        bail!(
            "{}: its {} rows are too few, or too many of them equal, to split them into training, validation and test \
             rows",
            file.display(),
            rows.len()
        );
    };
    let mut files = Vec::new();
    for (split, part) in Split::ALL.into_iter().zip(parts) {
        let lines = part.into_iter().map(|row| Ok(serde_json::to_string(&rows[row])? + "\n"));
        let text = lines.collect::<serde_json::Result<String>>()?;
        files.push((format!("{}.jsonl", split.name()), text.into_bytes().into()));
    }
    Ok(WrittenDir { dir: dir.to_owned(), files })
}

/// Indices of the rows for training, validation and test, each ascending: a tenth of the rows each for validation and
/// test, at least one, and the rest for training. Equal rows are in the same part. `None` if a part would be empty.
fn parts(rows: &[Row], seed: u64) -> Option<[Vec<usize>; 3]> {
    let (mut groups, mut group_of) =
        (Vec::<Vec<usize>>::new(), HashMap::<&RowContent, usize>::new());
    for (index, row) in rows.iter().enumerate() {
        let group = *group_of.entry(&row.content).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(equal) => equal.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let held_out = (rows.len() / HELD_OUT).max(1);
    let [mut train, mut validation, mut test] = [const { Vec::new() }; 3];
    for group in groups {
        let fits = |part: &Vec<usize>| part.len() + group.len() <= held_out;
        let part = if fits(&test) {
            &mut test
        } else if fits(&validation) {
            &mut validation
        } else {
            &mut train
        };
        part.extend(group);
    }
    let mut parts = [train, validation, test];
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(completions: impl IntoIterator<Item = usize>) -> Vec<Row> {
        completions.into_iter().map(|text| Row::new("prompt", text.to_string())).collect()
    }

    #[test]
    fn every_row_is_in_one_part_and_a_tenth_is_held_out_twice() {
        let rows = rows(0..105);
        let [train, validation, test] = parts(&rows, 3).unwrap_or_default();
        assert_eq!([train.len(), validation.len(), test.len()], [85, 10, 10]);
        let mut all = [&train[..], &validation, &test].concat();
        assert!(train.is_sorted() && validation.is_sorted() && test.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..105).collect::<Vec<_>>());
        assert_eq!(parts(&rows, 3), Some([train.clone(), validation, test]));
        assert_ne!(parts(&rows, 4).unwrap_or_default()[0], train);
    }

    #[test]
    fn equal_rows_are_in_the_same_part() {
        let rows = rows((0..200).map(|index| index % 50));
        let parts = parts(&rows, 0).unwrap_or_default();
        assert_eq!(parts.each_ref().map(Vec::len), [160, 20, 20]);
        for part in parts {
            let texts = |part: &[usize]| {
                part.iter().filter_map(|&row| rows[row].completion()).collect::<Vec<_>>()
            };
            let mut distinct = texts(&part);
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(part.len(), 4 * distinct.len());
        }
    }

    #[test]
    fn too_few_different_rows_are_not_split() {
        assert_eq!(parts(&rows(0..2), 0), None);
        assert!(parts(&rows(0..3), 0).is_some());
        assert_eq!(parts(&rows([0; 30]), 0), None);
    }
}
