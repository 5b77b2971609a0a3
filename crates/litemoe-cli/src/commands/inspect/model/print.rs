use std::collections::BTreeSet;

use comfy_table::Table;
use litemoe_model::{AttentionConfig, Leftover, Part, Quantised, RopeScaling};

use super::super::print::{aligned, count, field, first_of, table};
use super::forecast::ModelForecast;
use super::report::{BudgetLine, Inspected, Layer, Outcome};
use crate::output;

impl Inspected<'_> {
    pub(super) fn print(&self) -> anyhow::Result<()> {
        for (name, text) in [
            ("family", self.family.to_owned()),
            ("fingerprint", self.fingerprint.clone()),
            ("size", self.size()),
            ("attention", attention(self.attention)),
            ("positions", positions(self.attention)),
            ("experts", self.experts()),
            ("parameters", self.parameters()),
        ] {
            field(name, &text)?;
        }
        if let Some(Quantised { dtype, source, .. }) = &self.quantised {
            field("quantised", &format!("in {dtype}, from {source}, whose adapters fit"))?;
        }
        for leftovers in self.leftovers.chunk_by(|one, next| one.reason == next.reason) {
            field("not used", &unused(leftovers))?;
        }
        output::line(&self.part_table().to_string())?;
        if !self.budgets.is_empty() {
            output::line(&self.budget_table().to_string())?;
        }
        self.forecast.as_ref().map_or(Ok(()), ModelForecast::print)
    }

    fn size(&self) -> String {
        let Self { n_blocks, d_model, vocab, max_tokens, .. } = self;
        let dtypes = self.dtypes.iter().copied().collect::<Vec<_>>().join(", ");
        format!(
            "{n_blocks} blocks of width {d_model}, vocabulary {vocab}, rows of up to {max_tokens} tokens, {dtypes}"
        )
    }

    fn experts(&self) -> String {
        if self.layers.is_empty() {
            return "none".to_owned();
        }
        let range = |of: fn(&Layer) -> usize| range(self.layers.values().map(of));
        format!(
            "{} in each of {}, {} for a token, {} neurons",
            range(|layer| layer.n_experts),
            if self.layers.len() == 1 {
                "one block".to_owned()
            } else {
                format!("{} blocks", self.layers.len())
            },
            range(|layer| layer.top_k),
            range(|layer| layer.d_expert)
        )
    }

    fn parameters(&self) -> String {
        let (all, active) = (count(self.parameters), count(self.active_parameters));
        let embedding = if self.tied_head { "is the head too" } else { "is not counted" };
        format!("{all}, of which a token uses {active} (the embedding {embedding})")
    }

    fn part_table(&self) -> Table {
        let mut table = table(["part", "parameters", "bytes", "share"]);
        let line = |name: &str, parameters: u64, bytes: u64| {
            let share = 100.0 * bytes as f64 / self.bytes as f64;
            [name.to_owned(), count(parameters), output::bytes(bytes), format!("{share:.1} %")]
        };
        for (&part, size) in &self.parts {
            table.add_row(line(name(part), size.parameters, size.bytes));
        }
        table.add_row(line("all", self.parameters, self.bytes));
        aligned(table)
    }

    fn budget_table(&self) -> Table {
        let mut table = table(["budget", "experts a block", "their bytes", "parameters", "bytes"]);
        self.budgets.iter().for_each(|line| {
            table.add_row(budget(line));
        });
        aligned(table)
    }
}

fn budget(BudgetLine { budget, outcome }: &BudgetLine) -> Vec<String> {
    match outcome {
        Outcome::Left { kept_per_layer, expert_bytes, bytes, parameters } => vec![
            budget.to_string(),
            kept_per_layer.to_string(),
            output::bytes(*expert_bytes),
            count(*parameters),
            output::bytes(*bytes),
        ],
        Outcome::Refused { .. } => {
            vec![budget.to_string(), "fewer than its router needs".to_owned()]
        }
    }
}

/// Leftovers of one reason.
fn unused(leftovers: &[Leftover]) -> String {
    let names: Vec<&str> = leftovers.iter().map(|leftover| &*leftover.name).collect();
    format!("{}: {}", leftovers[0].reason, first_of(&names))
}

fn attention(config: &AttentionConfig) -> String {
    let AttentionConfig { n_heads, n_kv_heads, d_head, .. } = config;
    let kind = match (config.latent, n_kv_heads) {
        (Some(_), _) => "latent",
        (None, 1) => "multi-query",
        (None, _) if n_kv_heads == n_heads => "multi-head",
        (None, _) => "grouped-query",
    };
    let keys = match config.latent {
        Some(latent) => format!("keys and values from {} values a token", latent.kv_rank),
        None => format!("{n_kv_heads} of keys and values"),
    };
    let reach = match (config.window, config.chunk) {
        (Some(window), _) => Some(format!("a window of {window} tokens")),
        (None, chunk) => chunk.map(|chunk| format!("chunks of {chunk} tokens")),
    };
    let reach = match (reach, config.unwindowed.len()) {
        (Some(reach), 0) => format!(", {reach}"),
        (Some(reach), 1) => format!(", {reach} but in one block"),
        (Some(reach), n) => format!(", {reach} but in {n} blocks"),
        (None, _) => String::new(),
    };
    let sinks = if config.sinks { ", a sink in every head" } else { "" };
    format!("{kind}, {n_heads} heads of {d_head}, {keys}{reach}{sinks}")
}

fn positions(config: &AttentionConfig) -> String {
    let Some(rope) = &config.rope else {
        return match config.relative {
            Some(relative) => format!("a bias by distance, {} buckets", relative.n_buckets),
            None => "none".to_owned(),
        };
    };
    let scaling = match rope.scaling {
        RopeScaling::None => String::new(),
        RopeScaling::Linear { factor } => format!(", stretched {factor} times"),
        RopeScaling::Llama3 { factor, .. } => format!(", stretched {factor} times as in Llama 3"),
        RopeScaling::Yarn { factor, .. } => format!(", stretched {factor} times by YaRN"),
        RopeScaling::Long { .. } => ", stretched by LongRoPE".to_owned(),
        _ => ", stretched".to_owned(),
    };
    let none = match config.unrotated.len() {
        0 => String::new(),
        1 => ", none in one block".to_owned(),
        n => format!(", none in {n} blocks"),
    };
    format!("rotary, base {}{scaling}{none}", rope.theta)
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Embedding => "embedding",
        Part::Attention => "attention",
        Part::Dense => "dense",
        Part::Routers => "routers",
        Part::SharedExperts => "shared experts",
        Part::Experts => "experts",
        Part::Norms => "norms",
        Part::Head => "head",
        _ => "other",
    }
}

/// A single value, or `smallest to largest`.
fn range(values: impl Iterator<Item = usize>) -> String {
    let values: BTreeSet<usize> = values.collect();
    match (values.first(), values.last()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (Some(one), _) => one.to_string(),
        (None, _) => "no".to_owned(),
    }
}
