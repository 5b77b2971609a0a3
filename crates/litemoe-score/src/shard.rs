use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use litemoe_core::{Input, Shard, TokenRow, batches, sha256_hex};

use crate::batches::Row;
use crate::{ScoreError, ScoreOptions};

/// Shard `index` of `of` shards of the rows: `2/3` is the second of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardIndex {
    index: usize,
    of: usize,
}

impl ShardIndex {
    /// Shard `index`, from 1 to `of`.
    pub fn new(index: usize, of: usize) -> Result<Self, ScoreError> {
        match (1..=of).contains(&index) {
            true => Ok(Self { index, of }),
            false => Err(ScoreError::NoSuchShard { given: format!("{index}/{of}") }),
        }
    }

    /// The range of rows of this shard. Shards are cut between batches, so their merged sums equal those of one pass
    /// over `rows` bit for bit.
    ///
    /// # Errors
    /// [`ScoreError::FewBatches`] if there are more shards than batches.
    pub fn rows(
        self,
        rows: &[impl TokenRow],
        options: &ScoreOptions,
    ) -> Result<Range<usize>, ScoreError> {
        let lens: Vec<usize> =
            batches(rows, options.limits()).iter().map(|b| b.rows.len()).collect();
        if self.of > lens.len() {
            return Err(ScoreError::FewBatches { shards: self.of, batches: lens.len() });
        }
        let start_of = |shard: usize| lens[..lens.len() * shard / self.of].iter().sum::<usize>();
        Ok(start_of(self.index - 1)..start_of(self.index))
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for ShardIndex {
    type Err = ScoreError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(index, of)| {
            Some((index.parse::<usize>().ok()?, of.parse::<usize>().ok()?))
        });
        let (index, of) =
            numbers.ok_or_else(|| ScoreError::NoSuchShard { given: text.to_owned() })?;
        Self::new(index, of)
    }
}

/// Records of rows scored in one pass: a shard is one batch, so that overlapping passes are noticed. Ascending by hash.
pub(crate) fn shards_of(rows: &[Row<'_>], options: &ScoreOptions) -> Vec<Shard> {
    let mut rest = rows;
    let of_batch = |batch: Input| {
        let (rows, others) = rest.split_at(batch.rows.len());
        rest = others;
        shard_of(rows)
    };
    let mut shards: Vec<Shard> =
        batches(rows, options.limits()).into_iter().map(of_batch).collect();
    shards.sort_by(|x, y| x.sha256.cmp(&y.sha256));
    shards
}

/// The shard record of rows scored in one pass.
fn shard_of(rows: &[Row<'_>]) -> Shard {
    let mut bytes = Vec::new();
    for row in rows {
        for ids in [row.encoder.unwrap_or_default(), row.tokens] {
            bytes.extend((ids.len() as u64).to_le_bytes());
            bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        let covered = |token| row.completion.and_then(|mask| mask.get(token)) == Some(&true);
        bytes.extend((0..row.tokens.len()).map(|token| u8::from(covered(token))));
    }
    Shard {
        sha256: sha256_hex(&bytes),
        rows: rows.len() as u64,
        tokens: rows.iter().map(|row| row.n_tokens() as u64).sum(),
    }
}
