use std::collections::{BTreeMap, BTreeSet};

use litemoe_core::{Budget, LayerId, MoeLayer};
use litemoe_merge::MergeError;
use litemoe_model::{AttentionConfig, Checkpoint, Leftover, Part, Quantised};
use serde::Serialize;

use super::forecast::ModelForecast;
use super::sizes::{Left, Size, Sizes};

/// Report of `inspect`.
#[derive(Serialize)]
pub(super) struct Inspected<'a> {
    kind: &'static str,
    pub(super) family: &'static str,
    pub(super) fingerprint: String,
    pub(super) d_model: usize,
    pub(super) n_blocks: usize,
    pub(super) vocab: usize,
    pub(super) max_tokens: usize,
    pub(super) dtypes: BTreeSet<&'static str>,
    /// How it was quantised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quantised: Option<Quantised>,
    pub(super) attention: &'a AttentionConfig,
    /// Tied embeddings: whether the embedding is also the LM head.
    pub(super) tied_head: bool,
    pub(super) parameters: u64,
    /// Parameters used per token, see [`Sizes::active_parameters`].
    pub(super) active_parameters: u64,
    pub(super) bytes: u64,
    pub(super) expert_bytes: u64,
    pub(super) parts: BTreeMap<Part, Size>,
    pub(super) layers: BTreeMap<LayerId, Layer>,
    /// What the files hold and the model does not use.
    pub(super) leftovers: &'a [Leftover],
    pub(super) budgets: Vec<BudgetLine>,
    /// Memory and speed, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forecast: Option<ModelForecast>,
    #[serde(skip)]
    sizes: Sizes,
    #[serde(skip)]
    moe_layers: &'a [MoeLayer],
}

#[derive(Serialize)]
pub(super) struct Layer {
    pub(super) n_experts: usize,
    pub(super) top_k: usize,
    pub(super) d_expert: usize,
    /// Bytes of an expert, in bf16 where it is quantised, as a proxy has it.
    pub(super) expert_bytes: u64,
}

/// Proxy size under a byte budget, or why there is no such proxy.
#[derive(Serialize)]
pub(super) struct BudgetLine {
    pub(super) budget: Budget,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    Left { kept_per_layer: usize, expert_bytes: u64, bytes: u64, parameters: u64 },
    Refused { refused: String },
}

impl<'a> Inspected<'a> {
    pub(super) fn of(checkpoint: &'a Checkpoint) -> Self {
        let (config, sizes) = (checkpoint.config(), Sizes::of(checkpoint));
        Self {
            kind: "model",
            family: checkpoint.family(),
            fingerprint: checkpoint.fingerprint().to_string(),
            d_model: config.d_model,
            n_blocks: sizes.n_blocks(),
            vocab: config.vocab,
            max_tokens: config.max_tokens,
            dtypes: sizes.dtypes.clone(),
            quantised: checkpoint.quantised().cloned(),
            attention: &config.attention,
            tied_head: sizes.is_tied(),
            parameters: sizes.total.parameters,
            active_parameters: sizes.active_parameters(checkpoint.moe_layers()),
            bytes: sizes.total.bytes,
            expert_bytes: sizes.part(Part::Experts).bytes,
            parts: sizes.parts.clone(),
            layers: checkpoint.moe_layers().iter().map(|l| (l.id, Layer::of(l))).collect(),
            leftovers: checkpoint.leftovers(),
            budgets: Vec::new(),
            forecast: None,
            moe_layers: checkpoint.moe_layers(),
            sizes,
        }
    }

    /// Adds a budget.
    pub(super) fn budget(&mut self, budget: Budget) -> Result<(), MergeError> {
        let left = self.sizes.left(self.moe_layers, budget)?;
        self.budgets.push(BudgetLine { budget, outcome: left.into() });
        Ok(())
    }

    /// Adds a budget; if it is too small, adds the reason.
    pub(super) fn try_budget(&mut self, budget: Budget) {
        if let Err(error) = self.budget(budget) {
            let outcome = Outcome::Refused { refused: error.to_string() };
            self.budgets.push(BudgetLine { budget, outcome });
        }
    }
}

impl Layer {
    fn of(layer: &MoeLayer) -> Self {
        let &MoeLayer { n_experts, top_k, d_expert, expert_bytes, .. } = layer;
        Self { n_experts, top_k, d_expert, expert_bytes }
    }
}

impl From<Left> for Outcome {
    fn from(Left { kept_per_layer, experts, total }: Left) -> Self {
        let (expert_bytes, bytes) = (experts.bytes, total.bytes);
        Self::Left { kept_per_layer, expert_bytes, bytes, parameters: total.parameters }
    }
}
