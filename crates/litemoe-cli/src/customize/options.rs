use anyhow::bail;
use clap::Args;
use litemoe_adapter::{LoraOptions, TuneOptions};
use litemoe_core::{
    Alignment, Budget, Criterion, MergeMethod, PlanOptions, RouterRule, SimilarityKind,
};
use serde::{Deserialize, Serialize};

/// How a plan is made; the same on `plan` and `customize`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanArgs {
    /// Expert bytes the proxy may keep: a share of the foundation's, or an amount such as 4MiB.
    #[arg(long, default_value_t = PlanOptions::default().budget)]
    pub(crate) budget: Budget,
    /// The score that ranks the experts.
    #[arg(long, default_value_t = PlanOptions::default().score)]
    pub(crate) score: Criterion,
    /// What becomes of experts that matter somewhat: none (they are removed) or litemoe (they are merged).
    #[arg(long, default_value_t = PlanOptions::default().merge)]
    pub(crate) merge: MergeMethod,
    /// What makes two experts alike, when merging: affinity or expert_output_gated.
    #[arg(long, default_value_t = PlanOptions::default().similarity)]
    pub(crate) similarity: SimilarityKind,
    /// Experts below this share of the uniform score are removed, not merged.
    #[arg(long, default_value_t = PlanOptions::default().alpha)]
    pub(crate) cold: f64,
    /// At most this many experts are merged into one.
    #[arg(long, default_value_t = PlanOptions::default().max_merged)]
    pub(crate) max_merged: usize,
    /// How a merged expert's neurons are matched to its host's: hungarian or none.
    #[arg(long, default_value_t = PlanOptions::default().alignment)]
    pub(crate) alignment: Alignment,
    /// What the proxy's router does with the experts taken out: drop_rows, mask, redirect
    /// or redirect_selected.
    #[arg(long, default_value_t = PlanOptions::default().router)]
    pub(crate) router: RouterRule,
}

impl PlanArgs {
    /// The options as a plan records them.
    pub(crate) fn options(&self) -> PlanOptions {
        PlanOptions {
            budget: self.budget,
            score: self.score,
            merge: self.merge,
            similarity: self.similarity,
            alpha: self.cold,
            max_merged: self.max_merged,
            alignment: self.alignment,
            router: self.router,
        }
    }

    /// The same choices as command-line arguments, under another score.
    pub(crate) fn to_args(&self, score: Criterion) -> Vec<String> {
        flags([
            ("--budget", self.budget.to_string()),
            ("--score", score.to_string()),
            ("--merge", self.merge.to_string()),
            ("--similarity", self.similarity.to_string()),
            ("--cold", self.cold.to_string()),
            ("--max-merged", self.max_merged.to_string()),
            ("--alignment", self.alignment.to_string()),
            ("--router", self.router.to_string()),
        ])
    }
}

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

    /// The same choices as command-line arguments.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let mut args = flags([
            ("--rank", self.rank.to_string()),
            ("--expert-rank", self.expert_rank.to_string()),
            ("--alpha", self.alpha.to_string()),
            ("--steps", self.steps.to_string()),
            ("--batch", self.batch.to_string()),
            ("--accumulate", self.accumulate.to_string()),
            ("--learning-rate", self.learning_rate.to_string()),
            ("--warmup", self.warmup.to_string()),
            ("--weight-decay", self.weight_decay.to_string()),
            ("--router-noise", self.router_noise.to_string()),
            ("--validate-every", self.validate_every.to_string()),
            ("--validation-rows", self.validation_rows.to_string()),
            ("--max-tokens", self.max_tokens.to_string()),
        ]);
        if !self.targets.is_empty() {
            args.push(format!("--targets={}", self.targets.join(",")));
        }
        if let Some(share) = self.hot_experts {
            args.push(format!("--hot-experts={share}"));
        }
        if self.recompute {
            args.push("--recompute".to_owned());
        }
        args
    }
}

/// What a report says of how its numbers were made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordedOptions {
    pub(crate) plan: PlanOptions,
    pub(crate) tune: TuneArgs,
    /// Training rows the scores were measured on.
    pub(crate) calibration_rows: usize,
    /// How the proxy's down projections were solved anew.
    pub(crate) refit: String,
    pub(crate) refit_rank: usize,
    /// How the adapter was to be mounted, as arguments of the command line.
    pub(crate) mount: Vec<String>,
    pub(crate) program: String,
    pub(crate) threads: usize,
}

fn flags<const N: usize>(pairs: [(&str, String); N]) -> Vec<String> {
    // In one word, since a value may begin with a dash.
    pairs.map(|(flag, value)| format!("{flag}={value}")).into()
}
