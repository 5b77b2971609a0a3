use litemoe_core::{Input, TokenRow};

use crate::ScoreOptions;

/// A row's token ids, and its completion mask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) encoder: Option<&'a [u32]>,
    pub(crate) completion: Option<&'a [bool]>,
}

impl<'a> Row<'a> {
    pub(crate) fn of(row: &'a impl TokenRow) -> Self {
        Self { tokens: row.tokens(), encoder: row.encoder(), completion: row.completion() }
    }

    /// Tokens of both sides.
    pub(crate) fn n_tokens(self) -> usize {
        self.tokens.len() + self.encoder.map_or(0, <[u32]>::len)
    }

    /// Tokens of the longer side, to which a batch is padded.
    fn width(self) -> usize {
        self.tokens.len().max(self.encoder.map_or(0, <[u32]>::len))
    }

    fn push_to(self, batch: &mut Input) {
        batch.rows.push(self.tokens.to_vec());
        if let Some(encoder) = self.encoder {
            batch.encoder_rows.get_or_insert_default().push(encoder.to_vec());
        }
    }
}

/// Cuts rows, in their order, into batches within `options.batch` and `options.batch_tokens`.
pub(crate) fn batches(rows: &[Row<'_>], options: &ScoreOptions) -> Vec<Input> {
    let mut batches: Vec<Input> = Vec::new();
    let mut longest = 0;
    for row in rows {
        longest = longest.max(row.width());
        let fits = |batch: &Input| {
            let n_rows = batch.rows.len() + 1;
            n_rows <= options.batch && n_rows * longest <= options.batch_tokens
        };
        if !batches.last().is_some_and(fits) {
            batches.push(Input::default());
            longest = row.width();
        }
        row.push_to(batches.last_mut().expect("one was just pushed"));
    }
    batches
}

/// Gathers batches, in their order, into rounds of at most `held_tokens` tokens; a batch of more is a round of its own.
pub(crate) fn rounds(batches: Vec<Input>, held_tokens: usize) -> Vec<Vec<Input>> {
    let mut rounds: Vec<Vec<Input>> = Vec::new();
    let mut held = 0;
    for batch in batches {
        let sides = batch.rows.iter().chain(batch.encoder_rows.iter().flatten());
        let tokens: usize = sides.map(Vec::len).sum();
        held += tokens;
        match rounds.last_mut() {
            Some(round) if held <= held_tokens => round.push(batch),
            _ => {
                rounds.push(vec![batch]);
                held = tokens;
            }
        }
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches and rounds of rows of these lengths, as lengths.
    fn cut(lens: &[usize], batch: usize, batch_tokens: usize, held: usize) -> Vec<Vec<Vec<usize>>> {
        let rows: Vec<Vec<u32>> = lens.iter().map(|&len| vec![0; len]).collect();
        let rows: Vec<Row<'_>> = rows.iter().map(Row::of).collect();
        let options = ScoreOptions { batch, batch_tokens, ..Default::default() };
        let lens = |batch: &Input| batch.rows.iter().map(Vec::len).collect();
        let rounds = rounds(batches(&rows, &options), held);
        rounds.iter().map(|round| round.iter().map(lens).collect()).collect()
    }

    #[test]
    fn rows_and_padded_tokens_limit_a_batch() {
        assert_eq!(cut(&[3, 1, 2, 1, 1], 2, 100, 100), [[vec![3, 1], vec![2, 1], vec![1]]]);
        assert_eq!(cut(&[3, 1, 1, 3, 1], 9, 8, 100), [[vec![3, 1], vec![1, 3], vec![1]]]);
        assert_eq!(cut(&[1, 9, 1], 9, 4, 100), [[vec![1], vec![9], vec![1]]]);
    }

    #[test]
    fn tokens_limit_a_round() {
        let rounds = cut(&[2, 2, 2, 5, 1], 1, 100, 4);
        assert_eq!(rounds, [vec![vec![2], vec![2]], vec![vec![2]], vec![vec![5]], vec![vec![1]]]);
    }
}
