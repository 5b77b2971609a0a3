use std::path::PathBuf;

use clap::Args;
use litemoe_core::{Sampler, Sampling};
use litemoe_model::{Finish, Stop, generate};
use litemoe_text::Message;
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::model::Loaded;
use crate::output;

/// Answer a prompt
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The model: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// What the user says.
    #[arg(long)]
    prompt: String,
    /// An adapter, a PEFT directory.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Tokens to generate at most.
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
    /// Divides the logits before sampling; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.0, value_parser = temperature)]
    temperature: f32,
    /// Keep the tokens whose probabilities first reach this sum.
    #[arg(long, default_value_t = 1.0, value_parser = top_p)]
    top_p: f32,
    /// Keep this many most probable tokens; 0 keeps all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print JSON when done instead of text as it comes.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

fn temperature(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value: &f32| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| "a temperature is a number not below 0".to_owned())
}

fn top_p(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| *value > 0.0 && *value <= 1.0);
    value.ok_or_else(|| "top-p is a number above 0 and at most 1".to_owned())
}

#[derive(Serialize)]
struct Generated {
    text: String,
    finish_reason: &'static str,
    prompt_tokens: usize,
    tokens: usize,
}

impl GenerateArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let loaded = Loaded::open(&self.model, self.device)?;
        let adapters = self.adapter.as_deref().map(|dir| loaded.adapter(dir)).transpose()?;
        let prompt = loaded.tokenizer.encode_prompt(&[Message::user(self.prompt.as_str())])?;
        loaded.expect_ids(&prompt)?;
        let eos: Vec<u32> =
            loaded.tokenizer.end_ids().iter().chain(loaded.model.eos_ids()).copied().collect();
        let mut detokenizer = loaded.tokenizer.detokenizer();
        let mut failed = None;
        let mut sampler = Sampler::new(self.sampling());
        let stop = Stop { max_new: self.max_tokens, eos_ids: &eos };
        let (ids, finish) =
            generate(&loaded.model, adapters.as_ref(), &prompt, &mut sampler, stop, |id| {
                match detokenizer.push(id) {
                    Ok(text) if !self.json => output::piece(&text),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
                failed.is_none()
            });
        if let Some(error) = failed {
            return Err(error.into());
        }
        if !self.json {
            output::line(&detokenizer.finish()?);
            return Ok(());
        }
        output::json(&Generated {
            text: loaded.tokenizer.decode(&ids)?,
            finish_reason: if finish == Finish::Eos { "stop" } else { "length" },
            prompt_tokens: prompt.len(),
            tokens: ids.len(),
        })
    }

    fn sampling(&self) -> Sampling {
        let Self { temperature, top_p, top_k, seed, .. } = *self;
        Sampling { temperature, top_p, top_k, seed }
    }
}
