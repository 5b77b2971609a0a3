use super::shares::Served;

/// Limits of one batched step.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepLimits {
    /// Rows that decode.
    pub(super) max_rows: usize,
    /// Prompt tokens of all rows, if no row decodes.
    pub(super) max_prefill: usize,
    /// Prompt tokens of all rows in a step in which others decode, which wait for them.
    pub(super) max_prefill_mixed: usize,
    /// Tokens of rows whose every token has logits.
    pub(super) max_scored: usize,
}

/// A row that has tokens to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// Number of the client, from 0.
    pub(super) client: usize,
    /// Tokens that are left to run; a row that decodes has one.
    pub(super) n_left: usize,
    /// Whether its next token was sampled.
    pub(super) decodes: bool,
    /// Whether every token's logits are wanted.
    pub(super) scored: bool,
    /// Whether it must run alone.
    pub(super) alone: bool,
}

/// Chooses the rows of a step, and how many tokens of each run, by what the clients were served so far: always the next
/// row of the client that was served least, counting what the step serves it. Rows of one client are in order of
/// arrival.
pub(super) fn select(
    candidates: &[Candidate],
    served: &mut [Served],
    limits: StepLimits,
) -> Vec<(usize, usize)> {
    if let Some(row) = candidates.iter().position(|row| row.alone) {
        let max = if candidates[row].scored { limits.max_scored } else { limits.max_prefill };
        return vec![(row, candidates[row].n_left.min(max))];
    }
    let decodes = candidates.iter().any(|row| row.decodes);
    let mut prompt_tokens = if decodes { limits.max_prefill_mixed } else { limits.max_prefill };
    let (mut rows, mut scored_tokens) = (limits.max_rows, limits.max_scored);
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut chosen = Vec::new();
    loop {
        let fits = |row: &Candidate| match (row.decodes, row.scored) {
            (true, _) => rows > 0,
            (false, false) => prompt_tokens > 0,
            (false, true) => prompt_tokens.min(scored_tokens) > 0,
        };
        let next = left
            .iter()
            .enumerate()
            .filter(|&(_, &row)| fits(&candidates[row]))
            // The first of the smallest: the one that came first.
            .min_by_key(|&(_, &row)| served[candidates[row].client].order());
        let Some((index, &row)) = next else { return chosen };
        left.remove(index);
        let Candidate { client, n_left, decodes, scored, .. } = candidates[row];
        let room = if scored { prompt_tokens.min(scored_tokens) } else { prompt_tokens };
        let (n_prompt, n_sampled) = if decodes { (0, 1) } else { (n_left.min(room), 0) };
        prompt_tokens -= n_prompt;
        scored_tokens -= if scored { n_prompt } else { 0 };
        rows -= n_sampled;
        served[client] = served[client].plus(n_prompt, n_sampled);
        chosen.push((row, n_prompt + n_sampled));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::Client;
    use crate::engine::shares::Shares;

    const LIMITS: StepLimits =
        StepLimits { max_rows: 4, max_prefill: 512, max_prefill_mixed: 128, max_scored: 64 };

    fn row(client: usize, n_left: usize) -> Candidate {
        Candidate { client, n_left, decodes: n_left == 1, scored: false, alone: false }
    }

    /// Clients that were served nothing.
    fn none_served(n: usize) -> Vec<Served> {
        vec![Shares::default().of(&Client::at(1, "")); n]
    }

    #[test]
    fn rows_that_decode_leave_a_short_chunk_for_a_prompt() {
        let rows = [row(0, 1), row(1, 1000), row(0, 1)];
        let chosen = select(&rows, &mut none_served(2), LIMITS);
        assert_eq!(chosen, [(0, 1), (1, 128), (2, 1)]);
        assert_eq!(select(&rows[1..2], &mut none_served(2), LIMITS), [(0, 512)]);
    }

    #[test]
    fn a_flood_of_one_client_leaves_room_for_another() {
        let mut rows = vec![row(0, 1); 20];
        rows.push(row(1, 1));
        let mut served = none_served(2);
        let (mut n_flood, mut n_other) = (0, 0);
        for _ in 0..10 {
            let chosen = select(&rows, &mut served, LIMITS);
            assert_eq!(chosen.len(), 4);
            n_other += chosen.iter().filter(|(row, _)| *row == 20).count();
            n_flood += chosen.iter().filter(|(row, _)| *row < 20).count();
        }
        assert_eq!((n_flood, n_other), (30, 10));
    }

    #[test]
    fn a_short_prompt_runs_with_a_long_one() {
        let rows = [row(0, 400), row(1, 30), row(2, 1000)];
        let chosen = select(&rows, &mut none_served(3), LIMITS);
        assert_eq!(chosen, [(0, 400), (1, 30), (2, 82)]);
    }

    #[test]
    fn rows_with_logits_of_every_token_have_few() {
        let mut rows = [row(0, 400), row(1, 30), row(2, 1000)];
        rows[0].scored = true;
        rows[1].scored = true;
        let chosen = select(&rows, &mut none_served(3), LIMITS);
        assert_eq!(chosen, [(0, 64), (2, 448)]);
    }

    #[test]
    fn a_row_that_must_run_alone_does() {
        let mut rows = [row(0, 1), row(1, 1), row(1, 9)];
        rows[2].alone = true;
        assert_eq!(select(&rows, &mut none_served(2), LIMITS), [(2, 9)]);
    }

    proptest! {
        #[test]
        fn limits_hold_and_something_runs(
            rows in prop::collection::vec((0usize..5, 1usize..700), 1..40),
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(client, left)| row(client, left)).collect();
            let chosen = select(&rows, &mut none_served(5), LIMITS);
            prop_assert!(!chosen.is_empty());
            let n_decoding = chosen.iter().filter(|(index, _)| rows[*index].decodes).count();
            let prompts = chosen.iter().filter(|(index, _)| !rows[*index].decodes);
            let n_prompt: usize = prompts.map(|(_, n)| n).sum();
            let any = rows.iter().any(|row| row.decodes);
            prop_assert!(n_decoding <= LIMITS.max_rows);
            let max_prompt = if any { 128 } else { 512 };
            prop_assert!(n_prompt <= max_prompt);
            let mut indices: Vec<_> = chosen.iter().map(|(index, _)| *index).collect();
            indices.sort_unstable();
            indices.dedup();
            prop_assert_eq!(indices.len(), chosen.len());
        }
    }
}
