//! Rows as tokens of a model.

use std::collections::BTreeMap;
use std::path::Path;

use litemoe_text::{Row, RowFile, TextError, Tokenizer};

use super::shown::ShownRow;
use crate::args::rows::RowArgs;
use crate::model;

/// Tokenizer of a model and what it takes.
pub(super) struct Encoder {
    tokenizer: Tokenizer,
    /// Maximum row length of the model.
    max_tokens: usize,
    /// Special tokens as text.
    special_tokens: Vec<String>,
}

/// What a file's rows are as tokens.
#[derive(Default)]
pub(super) struct Tokenized {
    /// Lengths of the rows that can be encoded.
    pub(super) lengths: Vec<usize>,
    pub(super) too_long: usize,
    /// Number of rows whose text has each special token.
    pub(super) special_tokens: BTreeMap<String, usize>,
    /// Number of rows that cannot be encoded.
    pub(super) refused: usize,
    /// The first of them.
    pub(super) refusal: Option<Refusal>,
}

/// A row that cannot be encoded.
pub(super) struct Refusal {
    pub(super) line: usize,
    pub(super) error: TextError,
}

impl Encoder {
    /// Opens a model's tokenizer, without loading weights.
    pub(super) fn open(named: &Path) -> anyhow::Result<Self> {
        let checkpoint = model::open(named)?;
        let tokenizer = Tokenizer::from_dir(checkpoint.dir())?;
        let ids = (0..checkpoint.config().vocab as u32).filter(|&id| tokenizer.is_special(id));
        let texts =
            ids.map(|id| Ok(String::from_utf8_lossy(&tokenizer.token_bytes(id)?).into_owned()));
        let special_tokens: Vec<String> = texts.collect::<Result<_, TextError>>()?;
        Ok(Self { max_tokens: checkpoint.config().max_tokens, special_tokens, tokenizer })
    }

    /// Maximum length of a row that is not skipped.
    pub(super) fn max_tokens(&self, args: RowArgs) -> usize {
        args.max_tokens.min(self.max_tokens)
    }

    /// Encodes some of a file's rows, by index.
    pub(super) fn encode(&self, file: &RowFile, which: &[usize], args: RowArgs) -> Tokenized {
        let mut found = Tokenized::default();
        for &index in which {
            let row = file.rows[index].clone().with_loss(args.loss);
            for token in self.written_in(&row) {
                *found.special_tokens.entry(token.clone()).or_default() += 1;
            }
            match self.tokenizer.encode(&row) {
                Ok(sequence) => {
                    let encoder = sequence.encoder.map_or(0, |encoder| encoder.len());
                    let length = sequence.tokens.len().max(encoder);
                    found.too_long += usize::from(length > self.max_tokens(args));
                    found.lengths.push(length);
                }
                Err(error) => {
                    found.refused += 1;
                    found.refusal.get_or_insert(Refusal { line: file.lines[index], error });
                }
            }
        }
        found
    }

    /// The rows that can be encoded, as tokens.
    pub(super) fn show(
        &self,
        file: &RowFile,
        which: &[usize],
        args: RowArgs,
    ) -> Result<Vec<ShownRow>, TextError> {
        let encoded = which.iter().filter_map(|&index| {
            let row = file.rows[index].clone().with_loss(args.loss);
            Some((file.lines[index], self.tokenizer.encode(&row).ok()?))
        });
        encoded.map(|(line, row)| ShownRow::new(line, &row, &self.tokenizer)).collect()
    }

    /// Special tokens that the row's own text has.
    fn written_in<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a String> {
        let texts = row.texts();
        let is_in_text = move |token: &&String| {
            !token.is_empty() && texts.iter().any(|text| text.contains(token.as_str()))
        };
        self.special_tokens.iter().filter(is_in_text)
    }
}
