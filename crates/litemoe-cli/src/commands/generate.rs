use std::path::PathBuf;

use clap::Args;
use litemoe_core::Sampling;
use litemoe_model::generate;
use litemoe_text::Message;
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::model::Loaded;
use crate::output;

/// Answer a prompt
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// The model, a Hugging Face directory.
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
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Keep the tokens whose probabilities first reach this sum.
    #[arg(long, default_value_t = 1.0)]
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

#[derive(Serialize)]
struct Generated {
    text: String,
    finish_reason: &'static str,
    prompt_tokens: usize,
    tokens: usize,
}
