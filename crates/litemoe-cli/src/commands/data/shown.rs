//! Rows as a model reads them.

use litemoe_core::Sequence;
use litemoe_text::{TextError, Tokenizer};
use serde::Serialize;

use crate::output;

/// Tokens of a row.
#[derive(Serialize)]
pub(super) struct ShownRow {
    line: usize,
    tokens: usize,
    in_loss: usize,
    runs: Vec<Run>,
}

/// Tokens that are all in the loss, or none of them.
#[derive(Serialize)]
struct Run {
    part: Part,
    text: String,
    ids: Vec<u32>,
}

/// What a run of tokens is for.
#[derive(Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    /// Read by an encoder.
    Encoder,
    /// Read, not learnt.
    Context,
    /// In the loss.
    Loss,
}

impl ShownRow {
    pub(super) fn new(
        line: usize,
        sequence: &Sequence,
        tokenizer: &Tokenizer,
    ) -> Result<Self, TextError> {
        let encoder = sequence.encoder.iter().flatten().map(|&id| (Part::Encoder, id));
        let part = |covered| if covered { Part::Loss } else { Part::Context };
        let tokens = sequence.tokens.iter().zip(&sequence.completion);
        let tokens = encoder.chain(tokens.map(|(&id, &covered)| (part(covered), id)));
        let tokens: Vec<(Part, u32)> = tokens.collect();
        let runs = tokens.chunk_by(|x, y| x.0 == y.0).map(|run| {
            let ids: Vec<u32> = run.iter().map(|&(_, id)| id).collect();
            let bytes: Result<Vec<_>, _> =
                ids.iter().map(|&id| tokenizer.token_bytes(id)).collect();
            let text = String::from_utf8_lossy(&bytes?.concat()).into_owned();
            Ok(Run { part: run[0].0, text, ids })
        });
        let in_loss = sequence.completion.iter().filter(|covered| **covered).count();
        let runs = runs.collect::<Result<_, TextError>>()?;
        Ok(Self { line, tokens: sequence.tokens.len(), in_loss, runs })
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        let Self { line, tokens, in_loss, runs } = self;
        let tokens = output::counted(*tokens, "token", "tokens");
        output::line(&format!("  line {line}: {tokens}, {in_loss} in the loss"))?;
        for Run { part, text, ids } in runs {
            let name = match part {
                Part::Encoder => "encoder",
                Part::Context => "context",
                Part::Loss => "loss",
            };
            let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
            output::line(&format!("    {name:<7} {text:?}"))?;
            output::line(&format!("    {:<7} {}", "", ids.join(" ")))?;
        }
        Ok(())
    }
}
