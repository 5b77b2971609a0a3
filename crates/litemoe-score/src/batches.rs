use litemoe_core::Input;

use crate::ScoreOptions;

/// Cuts rows, in their order, into batches within `options.batch` and `options.batch_tokens`.
pub(crate) fn batches(rows: &[&[u32]], options: &ScoreOptions) -> Vec<Input> {
    let mut batches: Vec<Input> = Vec::new();
    let mut longest = 0;
    for row in rows {
        longest = longest.max(row.len());
        match batches.last_mut() {
            Some(Input { rows, .. })
                if rows.len() < options.batch
                    && (rows.len() + 1) * longest <= options.batch_tokens =>
            {
                rows.push(row.to_vec());
            }
            _ => {
                batches.push(Input::decoder(vec![row.to_vec()]));
                longest = row.len();
            }
        }
    }
    batches
}

/// Gathers batches, in their order, into rounds of at most `held_tokens` tokens; a batch of more is a round of its own.
pub(crate) fn rounds(batches: Vec<Input>, held_tokens: usize) -> Vec<Vec<Input>> {
    let mut rounds: Vec<Vec<Input>> = Vec::new();
    let mut held = 0;
    for batch in batches {
        let tokens: usize = batch.rows.iter().map(Vec::len).sum();
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
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
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
