use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use litemoe_core::{Budget, LayerId};
use litemoe_merge::kept_per_layer;
use serde::Serialize;

use crate::{model, output};

/// Show what a model is made of, and what a budget would leave
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The model: a Hugging Face directory, or the id of a model that was pulled.
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// A budget to try: a share of the expert bytes, or an amount such as 4MiB.
    #[arg(long)]
    budget: Option<Budget>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Inspected {
    family: String,
    fingerprint: String,
    bytes: u64,
    expert_bytes: u64,
    layers: BTreeMap<LayerId, Layer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_per_layer: Option<usize>,
}

#[derive(Serialize)]
struct Layer {
    n_experts: usize,
    top_k: usize,
    d_model: usize,
    d_expert: usize,
}

impl InspectArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let checkpoint = model::open(&self.model)?;
        let layers = checkpoint.moe_layers();
        let inspected = Inspected {
            family: checkpoint.family().to_owned(),
            fingerprint: checkpoint.fingerprint().to_string(),
            bytes: checkpoint.bytes(),
            expert_bytes: checkpoint.expert_bytes(),
            layers: layers
                .iter()
                .map(|l| {
                    (
                        l.id,
                        Layer {
                            n_experts: l.n_experts,
                            top_k: l.top_k,
                            d_model: l.d_model,
                            d_expert: l.d_expert,
                        },
                    )
                })
                .collect(),
            kept_per_layer: self.budget.map(|budget| kept_per_layer(budget, layers)).transpose()?,
        };
        if self.json { output::json(&inspected) } else { inspected.print() }
    }
}

impl Inspected {
    fn print(&self) -> anyhow::Result<()> {
        let share = 100.0 * self.expert_bytes as f64 / self.bytes as f64;
        output::line(&format!("family       {}", self.family));
        output::line(&format!("fingerprint  {}", self.fingerprint));
        output::line(&format!(
            "size         {}, of which routed experts {} ({share:.0} %)",
            output::bytes(self.bytes),
            output::bytes(self.expert_bytes)
        ));
        for (id, layer) in &self.layers {
            let Layer { n_experts, top_k, d_model, d_expert } = layer;
            output::line(&format!(
                "layer {id}: {n_experts} experts, {top_k} a token, {d_expert} × {d_model}"
            ));
        }
        if let Some(kept) = self.kept_per_layer {
            output::line(&format!("the budget leaves {kept} experts a layer"));
        }
        Ok(())
    }
}
