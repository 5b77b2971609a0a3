use crate::{Input, TokenRow};

/// Batch size limits of one pass through a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Maximum rows, at least 1.
    pub rows: usize,
    /// Maximum tokens, padding included; a longer row forms a batch of its own.
    pub tokens: usize,
}

/// Splits rows, in order, into batches within the limits.
pub fn batches<R: TokenRow>(rows: &[R], limits: BatchLimits) -> Vec<Input> {
    let mut batches: Vec<Input> = Vec::new();
    let mut longest = 0;
    for row in rows {
        // The padded width is the longer of the encoder and decoder sides.
        let width = row.tokens().len().max(row.encoder().map_or(0, <[u32]>::len));
        longest = longest.max(width);
        let fits = |batch: &Input| {
            let n_rows = batch.rows.len() + 1;
            n_rows <= limits.rows && n_rows * longest <= limits.tokens
        };
        if !batches.last().is_some_and(fits) {
            batches.push(Input::default());
            longest = width;
        }
        if let Some(batch) = batches.last_mut() {
            batch.rows.push(row.tokens().to_vec());
            if let Some(encoder) = row.encoder() {
                batch.encoder_rows.get_or_insert_default().push(encoder.to_vec());
            }
        }
    }
    batches
}
