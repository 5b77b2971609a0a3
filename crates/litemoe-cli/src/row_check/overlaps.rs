use std::collections::HashMap;

use litemoe_text::RowFile;
use serde::Serialize;

use super::repeats::{Content, Prompt};
use super::source::Source;
use crate::splits::Split;

/// Rows that two splits share: a test on them does not tell how a model does on new rows.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Overlap {
    pub(crate) splits: [Split; 2],
    /// Rows of the second split that are in the first.
    pub(crate) rows: usize,
    /// Rows of the second split whose prompt is in the first, with another completion.
    pub(crate) prompts: usize,
    /// Number of rows of the second split.
    of: usize,
    /// Lines of the first shared row or prompt, in the second split and in the first.
    pub(crate) first: [usize; 2],
}

impl Overlap {
    /// Overlaps of all pairs of splits that share something.
    pub(crate) fn all(files: &[(Source<'_>, RowFile)]) -> Vec<Self> {
        let pairs = files
            .iter()
            .enumerate()
            .flat_map(|(index, second)| files[..index].iter().map(move |first| (first, second)));
        pairs
            .filter_map(|((first, earlier), (second, later))| {
                Self::of_two([first.split?, second.split?], earlier, later)
            })
            .collect()
    }

    fn of_two(splits: [Split; 2], first: &RowFile, second: &RowFile) -> Option<Self> {
        let contents: HashMap<Content<'_>, usize> =
            first.rows.iter().map(Content::of).zip(first.lines.iter().copied()).collect();
        let with_prompts = first.rows.iter().zip(&first.lines);
        let prompts: HashMap<Prompt<'_>, usize> =
            with_prompts.filter_map(|(row, &line)| Some((Prompt::of(row)?, line))).collect();
        let mut overlap =
            Self { splits, rows: 0, prompts: 0, of: second.rows.len(), first: [0; 2] };
        let mut found = None;
        for (row, &line) in second.rows.iter().zip(&second.lines) {
            let same_prompt = || Prompt::of(row).and_then(|prompt| prompts.get(&prompt));
            let (count, earlier) = match contents.get(&Content::of(row)) {
                Some(earlier) => (&mut overlap.rows, earlier),
                None => match same_prompt() {
                    Some(earlier) => (&mut overlap.prompts, earlier),
                    None => continue,
                },
            };
            *count += 1;
            found.get_or_insert([line, *earlier]);
        }
        found.map(|first| Self { first, ..overlap })
    }

    pub(super) fn warning(&self) -> String {
        let Self { splits: [first, second], rows, prompts, of, first: [line, earlier] } = self;
        let (first, second) = (first.name(), second.name());
        format!(
            "{rows} of {of} {second} rows are {first} rows too, and {prompts} more have the prompt of one; the first \
             is line {line}, as line {earlier} of the {first} rows"
        )
    }
}
