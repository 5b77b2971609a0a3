use anyhow::bail;
use clap::Args;
use litemoe_adapter::{LoraOptions, TuneOptions};
use serde::{Deserialize, Serialize};

use super::rows::RowArgs;

/// Tuning options of `tune` and `customize`.
#[derive(Debug, Clone, Args, Serialize, Deserialize, PartialEq)]
pub(crate) struct TuneArgs {
    /// LoRA rank, except on routed experts: at least 1, and at most the rank of the largest targeted matrix.
    #[arg(long, default_value_t = LoraOptions::default().rank)]
    pub(crate) rank: usize,
    /// LoRA rank on routed experts, at least 1 and at most that of their matrices.
    #[arg(long, default_value_t = LoraOptions::default().expert_rank)]
    pub(crate) expert_rank: usize,
    /// LoRA α, above 0: every LoRA, on experts too, is scaled by α/rank with --rank.
    #[arg(long, default_value_t = LoraOptions::default().alpha)]
    pub(crate) alpha: f64,
    /// Target modules, comma-separated: last parts of the linear layers' names, as in PEFT (q_proj), or `attention` and
    /// `experts` for all of their matrices [default: attention,experts].
    #[arg(long, value_delimiter = ',')]
    pub(crate) targets: Vec<String>,
    /// Share of each layer's routed experts to adapt, in (0, 1]: those with the highest scores [default: all].
    #[arg(long, value_name = "SHARE")]
    pub(crate) hot_experts: Option<f64>,
    /// Number of optimizer steps, 1 to 2^30.
    #[arg(long, default_value_t = TuneOptions::default().steps)]
    pub(crate) steps: usize,
    /// Batch size: rows per optimizer step, 1 to 2^20.
    #[arg(long, default_value_t = TuneOptions::default().batch)]
    pub(crate) batch: usize,
    /// Gradient accumulation: number of micro-batches per step, from 1 to the batch size. More of them need less
    /// memory.
    #[arg(long, default_value_t = 1)]
    pub(crate) accumulate: usize,
    /// Peak learning rate of AdamW.
    #[arg(long, default_value_t = TuneOptions::default().lr)]
    pub(crate) learning_rate: f64,
    /// Learning-rate warm-up: steps of the linear rise to the peak; a cosine decay to 5 % of the peak follows.
    #[arg(long, default_value_t = TuneOptions::default().warmup)]
    pub(crate) warmup: usize,
    /// Decoupled weight decay of AdamW, at least 0.
    #[arg(long, default_value_t = TuneOptions::default().weight_decay)]
    pub(crate) weight_decay: f64,
    /// Standard deviation of the noise on the router logits during tuning, in [0, 100]; 0 for none. Noise makes the
    /// adapter depend less on which experts a token is routed to, which helps under --routing full.
    #[arg(long, default_value_t = TuneOptions::default().router_noise)]
    pub(crate) router_noise: f64,
    /// Steps between validations and checkpoints; the adapter with the lowest validation loss is kept.
    #[arg(long, default_value_t = TuneOptions::default().validate_every)]
    pub(crate) validate_every: usize,
    /// Number of validation rows used during tuning: the first N of the file.
    #[arg(long, default_value_t = 100)]
    pub(crate) validation_rows: usize,
    /// Activation checkpointing: recompute each block's activations in the backward pass. Less memory, about a third
    /// more time.
    #[arg(long)]
    pub(crate) recompute: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) row_args: RowArgs,
}

impl TuneArgs {
    pub(crate) fn lora(&self) -> LoraOptions {
        let Self { rank, expert_rank, alpha, targets, hot_experts, .. } = self.clone();
        LoraOptions { rank, expert_rank, alpha, targets, hot_experts, rslora: false }
    }

    /// Options of the tuning run, except order and seed.
    pub(crate) fn tune(&self) -> TuneOptions {
        TuneOptions {
            steps: self.steps,
            batch: self.batch,
            micro_batch: self.batch.div_ceil(self.accumulate.max(1)),
            recompute: self.recompute,
            lr: self.learning_rate,
            warmup: self.warmup,
            weight_decay: self.weight_decay,
            router_noise: self.router_noise,
            validate_every: self.validate_every,
            ..TuneOptions::default()
        }
    }

    /// Checks the ranges that do not depend on model or rows.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        self.lora().check()?;
        self.tune().check()?;
        if !(1..=self.batch).contains(&self.accumulate) {
            let (parts, rows) = (self.accumulate, self.batch);
            bail!("--accumulate is {parts}: a step's {rows} rows make 1 to {rows} parts");
        }
        if let Some(share) = self.hot_experts.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            bail!("--hot-experts is {share}, but must be a share in (0, 1]");
        }
        if self.validation_rows == 0 {
            bail!("--validation-rows is 0, but at least 1 is needed");
        }
        self.row_args.check()
    }
}
