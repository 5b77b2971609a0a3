use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use litemoe_adapter::evaluate_rows;
use litemoe_core::{LanguageModel, MountedAdapter, Sequence};
use litemoe_text::Row;

use super::test_rows::TestRows;
use crate::model::Loaded;
use crate::{artefact, progress};

/// Closed set of labels: all possible completions of a classification app.
///
/// The model's choice is the label with the highest probability as a whole completion, end token included; ties go to
/// the first.
pub(super) struct Labels {
    pub(super) texts: Vec<String>,
    file: PathBuf,
}

impl Labels {
    /// Reads a JSON array of strings.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let texts: Vec<String> = artefact::read_plain(file)?;
        if texts.len() < 2 {
            bail!("{} has {} labels: there is nothing to choose", file.display(), texts.len());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = texts.iter().find(|text| !seen.insert(text.trim())) {
            bail!("{} has {twice:?} twice", file.display());
        }
        Ok(Self { texts, file: file.to_owned() })
    }

    /// Checks that every row's completion is one of the labels.
    pub(super) fn expect_completions(&self, rows: &TestRows) -> anyhow::Result<()> {
        let known: BTreeSet<&str> = self.texts.iter().map(|text| text.trim()).collect();
        for (row, number) in rows.rows.iter().zip(&rows.numbers) {
            let completion = row.completion().unwrap_or_default();
            if !known.contains(completion.trim()) {
                let file = self.file.display();
                bail!(
                    "row {number}: its completion {completion:?} is none of the labels in {file}"
                );
            }
        }
        Ok(())
    }

    /// The model's choice for each row.
    pub(super) fn choices(
        &self,
        loaded: &Loaded,
        mounted: Option<&MountedAdapter>,
        rows: &TestRows,
        batch_tokens: usize,
    ) -> anyhow::Result<Vec<&str>> {
        let bar = progress::begin("choosing", rows.rows.len() as u64, "rows");
        let choices = rows.rows.iter().zip(&rows.numbers).map(|(row, number)| {
            let choice = self.choice(loaded, mounted, row, batch_tokens);
            bar.add(1);
            choice.with_context(|| format!("row {number}"))
        });
        let choices = choices.collect();
        bar.finish();
        choices
    }

    fn choice(
        &self,
        loaded: &Loaded,
        mounted: Option<&MountedAdapter>,
        row: &Row,
        batch_tokens: usize,
    ) -> anyhow::Result<&str> {
        let candidates = self.candidates(loaded, row)?;
        let found = evaluate_rows(&loaded.model, &candidates, mounted, batch_tokens, &mut |_| ())?;
        Ok(&self.texts[least(found.iter().map(|found| found.nll))])
    }

    /// The row's prompt followed by each label.
    fn candidates(&self, loaded: &Loaded, row: &Row) -> anyhow::Result<Vec<Sequence>> {
        let rows: Vec<Row> =
            self.texts.iter().filter_map(|text| row.with_completion(text)).collect();
        let max = loaded.model.max_tokens();
        let encoded = loaded.tokenizer.encode_all(&rows, max)?;
        if encoded.skipped_too_long > 0 {
            let n_long = encoded.skipped_too_long;
            bail!("with {n_long} of the labels it is longer than the {max} tokens the model takes");
        }
        Ok(encoded.sequences)
    }
}

/// Index of the smallest value; ties go to the first.
fn least(values: impl Iterator<Item = f64>) -> usize {
    let smaller = |x: (usize, f64), y: (usize, f64)| if y.1 < x.1 { y } else { x };
    values.enumerate().reduce(smaller).map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use litemoe_fixtures::fuzz::fuzz_json;

    use super::*;
    use crate::artefact::BOUND;

    #[test]
    fn fuzzed_labels() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("labels.json");
        let documents =
            [&br#"["on", "off", "dim \ud83d\ude42"]"#[..], br#"["", " a\n", "b", "c", "d"]"#];
        let documents = documents.map(<[u8]>::to_vec);
        let mut read = 0;
        fuzz_json(&documents, |_, document| {
            fs::write(&file, document).expect("written");
            let mut labels = None;
            let allocated = allocation_counter::measure(|| labels = Labels::read(&file).ok());
            BOUND.check(document, allocated.bytes_max);
            let Some(labels) = labels else { return };
            read += 1;
            let distinct: BTreeSet<&str> = labels.texts.iter().map(|text| text.trim()).collect();
            assert!(distinct.len() == labels.texts.len() && distinct.len() > 1);
        });
        assert!(read > 0);
    }
}
