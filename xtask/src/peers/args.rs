use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

/// Arguments of `cargo xtask peers`.
#[derive(Args)]
pub(crate) struct PeersArgs {
    /// The model: a Hugging Face directory.
    #[arg(value_name = "MODEL")]
    pub(super) model: PathBuf,
    /// Python with the peers, see xtask/peers/README.md.
    #[arg(long, value_name = "FILE")]
    pub(super) python: PathBuf,
    /// Folder with the model as bf16.gguf, q8_0.gguf, q4_0.gguf, q4_k_m.gguf, or some of them [default: no llama.cpp].
    #[arg(long, value_name = "DIR")]
    pub(super) gguf: Option<PathBuf>,
    /// Folder with the model as q8/ and q4/, written by `litemoe quantize` [default: MODEL, quantised as it is loaded].
    #[arg(long, value_name = "DIR")]
    pub(super) quantized: Option<PathBuf>,
    /// Number of threads of every program.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(super) threads: usize,
    /// Rounds: each runs every program once, for every figure.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(super) rounds: usize,
    /// Figures to measure, comma-separated.
    #[arg(long, value_name = "FIGURE", value_delimiter = ',', value_enum,
          default_values_t = [Figure::Decode, Figure::Prefill, Figure::Load, Figure::Train])]
    pub(super) only: Vec<Figure>,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(super) prompt: usize,
    /// Tokens decoded after the prompt.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(super) tokens: usize,
    /// Rows of a training step, and tokens of each.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(super) rows: usize,
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(super) row_tokens: usize,
    /// Repetitions in a process, after one that warms up.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(super) repetitions: usize,
    /// The binary of litemoe [default: built from this checkout].
    #[arg(long, value_name = "FILE")]
    pub(super) litemoe: Option<PathBuf>,
    /// Command that runs each process, such as `taskset -c 0,1`.
    #[arg(long, value_name = "COMMAND")]
    pub(super) under: Option<String>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Figure {
    /// Tokens per second of decoding after a prompt.
    Decode,
    /// Tokens per second of a prompt.
    Prefill,
    /// Seconds of loading, the files in the cache.
    Load,
    /// Tokens per second of a training step.
    Train,
}

impl Figure {
    /// Name on the command lines of the scripts.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Prefill => "prefill",
            Self::Load => "load",
            Self::Train => "train",
        }
    }
}

impl PeersArgs {
    /// Checks the ranges.
    pub(super) fn check(&self) -> Result<()> {
        let options = [
            ("rounds", self.rounds, 1),
            ("threads", self.threads, 1),
            ("repetitions", self.repetitions, 1),
            ("prompt", self.prompt, 1),
            ("tokens", self.tokens, 1),
            ("rows", self.rows, 1),
            // A row's first token is not predicted.
            ("row-tokens", self.row_tokens, 2),
        ];
        for (option, n, least) in options {
            if n < least {
                bail!("--{option} is {n}, but at least {least} is needed");
            }
        }
        Ok(())
    }

    /// The model that litemoe loads in a format.
    pub(super) fn our_model(&self, format: &str) -> PathBuf {
        let quantized = self.quantized.as_ref().filter(|_| format != "bf16");
        quantized.map_or_else(|| self.model.clone(), |dir| dir.join(format))
    }

    /// Tokens of a figure's pass.
    pub(super) fn tokens_of(&self, figure: Figure) -> Option<usize> {
        match figure {
            Figure::Decode => Some(self.tokens),
            Figure::Prefill => Some(self.prompt),
            Figure::Train => Some(self.rows * self.row_tokens),
            Figure::Load => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PeersArgs,
    }

    #[test]
    fn quantized_models_are_loaded_in_their_formats() {
        let args = |more: &[&str]| {
            let line = [&["peers", "mid", "--python=p"], more].concat();
            Line::parse_from(line).args
        };
        let of = |args: PeersArgs| ["bf16", "q8", "q4"].map(|format| args.our_model(format));
        assert_eq!(of(args(&[])), ["mid", "mid", "mid"].map(PathBuf::from));
        let found = of(args(&["--quantized=small"]));
        assert_eq!(found, ["mid", "small/q8", "small/q4"].map(PathBuf::from));
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let checked =
            |option: &str| Line::parse_from(["peers", "model", "--python=p", option]).args.check();
        for (option, least) in [
            ("rounds", 1),
            ("threads", 1),
            ("repetitions", 1),
            ("prompt", 1),
            ("tokens", 1),
            ("rows", 1),
            ("row-tokens", 2),
        ] {
            assert!(checked(&format!("--{option}={least}")).is_ok(), "{option}");
            let less = least - 1;
            let error = checked(&format!("--{option}={less}")).unwrap_err().to_string();
            assert_eq!(error, format!("--{option} is {less}, but at least {least} is needed"));
        }
    }
}
