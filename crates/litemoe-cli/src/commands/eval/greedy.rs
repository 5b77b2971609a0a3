//! Greedy decoding of answers.

use litemoe_core::{CausalLm, Decoding, MountedAdapter, Sampler, Sampling};
use litemoe_text::Row;

use crate::model::Loaded;
use crate::progress;

/// Greedy answers to all rows, of at most `max_new` tokens each and within the model's context.
pub(super) fn answers(
    loaded: &Loaded,
    mounted: Option<&MountedAdapter>,
    rows: &[Row],
    max_new: usize,
) -> anyhow::Result<Vec<String>> {
    let bar = progress::begin("answering", rows.len() as u64, "rows");
    let answers = rows.iter().map(|row| {
        let answer = answer(loaded, mounted, row, max_new);
        bar.add(1);
        answer
    });
    let answers = answers.collect();
    bar.finish();
    answers
}

/// A greedy answer to a row's last turn in the loss, without the text that the chat template inserts before an assistant's message.
fn answer(
    loaded: &Loaded,
    mounted: Option<&MountedAdapter>,
    row: &Row,
    max_new: usize,
) -> anyhow::Result<String> {
    let Loaded { model, tokenizer, .. } = loaded;
    let prompt = tokenizer.encode_row_prompt(row)?;
    loaded.expect_ids(&prompt)?;
    let (mut cache, greedy) = (model.new_cache(), Sampler::new(Sampling::default()));
    let decoding = Decoding::new(model, mounted, &prompt, &mut cache, 0, greedy).take(max_new);
    let mut answer = tokenizer.answer(&[]);
    let pieces = answer.pieces(decoding).map(|piece| piece.map(|piece| piece.text));
    Ok(pieces.collect::<Result<String, _>>()?)
}
