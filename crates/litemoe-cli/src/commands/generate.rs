use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use litemoe_core::{CausalLm, Decoding, Sampler};
use litemoe_text::{Finish, Piece, TokenLogprob};
use serde::Serialize;

use crate::args::cache::CacheArgs;
use crate::args::device::DeviceArgs;
use crate::args::prompt::PromptArgs;
use crate::args::sampling::SamplingArgs;
use crate::args::weights::WeightArgs;
use crate::model::{self, Loaded};
use crate::output;

/// Generate an answer to a prompt
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The model: a Hugging Face model directory, or the id of a pulled model.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    prompt: PromptArgs,
    /// Adapter to mount, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Maximum number of generated tokens [default: up to the end of the model's context].
    #[arg(long)]
    max_tokens: Option<usize>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Log-probabilities of every generated token and of the N most probable tokens at its position. Needs --json.
    #[arg(long, value_name = "N", requires = "json")]
    logprobs: Option<usize>,
    /// Print one JSON object at the end instead of streaming text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    weights: WeightArgs,
    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Serialize)]
struct Generated {
    text: String,
    finish_reason: &'static str,
    prompt_tokens: usize,
    /// Number of generated tokens, without the end token.
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenLogprob>>,
}

impl GenerateArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let inputs = model::inputs(&self.model, self.adapter.as_deref())?;
        let prompt = self.prompt.read()?;
        let loaded = Loaded::open(&self.model, self.device, self.weights)?;
        let loaded = loaded.cached_as(self.cache, self.weights)?;
        let rule = self.sampling.rule(loaded.sampling()?);
        let mounted = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        let prompt = loaded.tokenizer.encode_chat(&prompt);
        let prompt = prompt.with_context(|| self.prompt.origin())?;
        loaded.expect_ids(&prompt)?;
        inputs.expect_unchanged()?;
        let (mut cache, sampler) = (loaded.model.new_cache(), Sampler::new(rule));
        let mounted = mounted.as_ref();
        let decoding = Decoding::new(&loaded.model, mounted, &prompt, &mut cache, 0, sampler)
            .with_logprobs(self.logprobs)
            .take(self.max_tokens.unwrap_or(usize::MAX));
        let mut answer = loaded.tokenizer.answer(&self.sampling.stop);
        let mut whole = Piece::default();
        for piece in answer.pieces(decoding) {
            let piece = piece?;
            if !self.json {
                output::piece(&piece.text)?;
            }
            whole.append(piece);
        }
        if !self.json {
            return output::line("");
        }
        let finish = whole.finish.unwrap_or(Finish::Length);
        output::json(&Generated {
            text: whole.text,
            finish_reason: finish.reason(),
            prompt_tokens: prompt.len(),
            tokens: answer.n_drawn() - usize::from(finish == Finish::EndToken),
            logprobs: self.logprobs.map(|_| whole.logprobs),
        })
    }
}
