use anyhow::bail;
use clap::Args;
use litemoe_adapter::{LoraOptions, TuneOptions};
use serde::{Deserialize, Serialize};

/// How an adapter is tuned; the same on `tune` and `customize`.
#[derive(Debug, Clone, Args, Serialize, Deserialize, PartialEq)]
pub(crate) struct TuneArgs {
    /// Rank of the LoRA updates, but for those beside routed experts.
    #[arg(long, default_value_t = LoraOptions::default().rank)]
    pub(crate) rank: usize,
    /// Rank of the updates beside routed experts, of which there are many.
    #[arg(long, default_value_t = LoraOptions::default().expert_rank)]
    pub(crate) expert_rank: usize,
    /// α: every update is scaled by α/rank.
    #[arg(long, default_value_t = LoraOptions::default().alpha)]
    pub(crate) alpha: f64,
    /// The linear layers to adapt, by the last part of their names, or `attention` and `experts` for all of these; both
    /// unless named.
    #[arg(long, value_delimiter = ',')]
    pub(crate) targets: Vec<String>,
    /// Of routed experts adapt only the hottest share, in (0, 1], of each layer's [default: all].
    #[arg(long, value_name = "SHARE")]
    pub(crate) hot_experts: Option<f64>,
    /// Optimiser steps.
    #[arg(long, default_value_t = TuneOptions::default().steps)]
    pub(crate) steps: usize,
    /// Rows per step.
    #[arg(long, default_value_t = TuneOptions::default().batch)]
    pub(crate) batch: usize,
    /// Parts a step's rows are run in, one after another; more parts need less memory.
    #[arg(long, default_value_t = 1)]
    pub(crate) accumulate: usize,
    /// Peak learning rate of AdamW.
    #[arg(long, default_value_t = TuneOptions::default().lr)]
    pub(crate) learning_rate: f64,
    /// Steps over which the learning rate rises to its peak; it then falls along a cosine to 5 % of it.
    #[arg(long, default_value_t = TuneOptions::default().warmup)]
    pub(crate) warmup: usize,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = TuneOptions::default().weight_decay)]
    pub(crate) weight_decay: f64,
    /// Standard deviation of the noise on router logits while tuning, 0 for none: an adapter that does not lean on which
    /// experts a token meets survives being mounted where there are more of them.
    #[arg(long, default_value_t = TuneOptions::default().router_noise)]
    pub(crate) router_noise: f64,
    /// Steps between two validations and checkpoints; the best validated adapter is kept.
    #[arg(long, default_value_t = TuneOptions::default().validate_every)]
    pub(crate) validate_every: usize,
    /// Validation rows used while tuning.
    #[arg(long, default_value_t = 100)]
    pub(crate) validation_rows: usize,
    /// Recompute each layer's activations in the backward pass: less memory, about a third more time.
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Rows longer than this many tokens are skipped and counted.
    #[arg(long, default_value_t = 512)]
    pub(crate) max_tokens: usize,
}

impl TuneArgs {
    pub(crate) fn lora(&self) -> LoraOptions {
        let Self { rank, expert_rank, alpha, targets, hot_experts, .. } = self.clone();
        LoraOptions { rank, expert_rank, alpha, targets, hot_experts, rslora: false }
    }

    /// But for order and seed.
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

    /// Refuses what no model and no rows could make right.
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
        for (option, value) in
            [("--validation-rows", self.validation_rows), ("--max-tokens", self.max_tokens)]
        {
            if value == 0 {
                bail!("{option} is 0, but at least 1 is needed");
            }
        }
        Ok(())
    }
}
