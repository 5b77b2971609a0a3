use litemoe_core::{Input, TokenRow};

/// A row's token ids and its completion mask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) encoder: Option<&'a [u32]>,
    pub(crate) completion: Option<&'a [bool]>,
}

impl TokenRow for Row<'_> {
    fn tokens(&self) -> &[u32] {
        self.tokens
    }

    fn encoder(&self) -> Option<&[u32]> {
        self.encoder
    }

    fn completion(&self) -> Option<&[bool]> {
        self.completion
    }
}

impl<'a> Row<'a> {
    pub(crate) fn of(row: &'a impl TokenRow) -> Self {
        Self { tokens: row.tokens(), encoder: row.encoder(), completion: row.completion() }
    }

    /// Tokens of decoder and encoder together.
    pub(crate) fn n_tokens(self) -> usize {
        self.tokens.len() + self.encoder.map_or(0, <[u32]>::len)
    }
}

/// Groups batches, in order, into rounds of at most `held_tokens` tokens; a larger batch is a round of its own.
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

    #[test]
    fn tokens_limit_a_round() {
        let batch = |len: usize| Input::decoder(vec![vec![0; len]]);
        let rounds = rounds([2, 2, 2, 5, 1].map(batch).to_vec(), 4);
        let lens = |round: &Vec<Input>| round.iter().map(|batch| batch.rows[0].len()).collect();
        let lens: Vec<Vec<usize>> = rounds.iter().map(lens).collect();
        assert_eq!(lens, [vec![2, 2], vec![2], vec![5], vec![1]]);
    }
}
