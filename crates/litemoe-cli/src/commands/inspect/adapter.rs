use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use litemoe_adapter::peft::{self, LITEMOE_TYPE, LORA_TYPE, LoraSummary};
use litemoe_adapter::{AdapterRecord, KeptExperts, LayerKeptExperts, load_for};
use litemoe_core::{LayerId, Stack, WeightDtype};
use litemoe_model::Outline;
use serde::Serialize;

use super::canvas::Canvas;
use super::print::{aligned, count, field, first_of, table};
use super::view::View;
use crate::args::device::cpu;
use crate::{artefact, model, output};

/// Most experts of a layer in a record, far above any model.
const MAX_EXPERTS: usize = 1 << 16;

/// Report on an adapter directory.
#[derive(Serialize)]
pub(super) struct AdapterView {
    kind: &'static str,
    peft_type: &'static str,
    peft_version: Option<String>,
    base_model: Option<String>,
    task_type: Option<String>,
    rslora: bool,
    bytes: u64,
    parameters: u64,
    modules: Vec<Module>,
    /// Modules and norm of each block.
    layers: BTreeMap<LayerId, Layer>,
    /// Modules whose update is zero.
    zero: Vec<String>,
    /// `litemoe.json`
    record: Option<AdapterRecord>,
    /// Whether it fits the given model.
    fit: Option<Fit>,
}

#[derive(Serialize)]
struct Module {
    path: String,
    rank: usize,
    alpha: f64,
    scale: f32,
    /// Experts of a stack.
    n_experts: Option<usize>,
    parameters: u64,
    /// Frobenius norm of the update, ‖scale · BA‖.
    norm: f64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Layer {
    modules: usize,
    norm: f64,
}

/// Result of loading an adapter for a model.
#[derive(Serialize)]
struct Fit {
    model: PathBuf,
    fits: bool,
    /// Why it does not fit.
    reason: Option<String>,
}

impl AdapterView {
    pub(super) fn of(dir: &Path, model: Option<&Path>) -> anyhow::Result<Self> {
        let record = AdapterRecord::read(dir)?;
        let summary = peft::summary(dir)?;
        if let Some(record) = &record {
            record.check_files(dir, &summary.config, &summary.sha256)?;
        }
        let modules: Vec<Module> = summary.modules.into_iter().map(Module::of).collect();
        let config = summary.config;
        let mut layers: BTreeMap<LayerId, Layer> = BTreeMap::new();
        for module in &modules {
            if let Some(id) = block(&module.path) {
                let layer = layers.entry(id).or_default();
                layer.modules += 1;
                layer.norm = layer.norm.hypot(module.norm);
            }
        }
        let zero = modules.iter().filter(|module| module.norm == 0.0);
        Ok(Self {
            kind: "adapter",
            peft_type: if config.routed { LITEMOE_TYPE } else { LORA_TYPE },
            peft_version: summary.peft_version,
            base_model: config.base_model,
            task_type: config.task_type,
            rslora: config.rslora,
            bytes: artefact::folder_bytes(dir)?,
            parameters: modules.iter().map(|module| module.parameters).sum(),
            layers,
            zero: zero.map(|module| module.path.clone()).collect(),
            modules,
            record,
            fit: model.map(|model| Fit::of(dir, model)).transpose()?,
        })
    }

    /// The LoRAs, those whose paths differ only in numbers in one line.
    fn module_table(&self) -> String {
        let mut kinds: BTreeMap<String, Vec<&Module>> = BTreeMap::new();
        for module in &self.modules {
            kinds.entry(numberless(&module.path)).or_default().push(module);
        }
        let mut table = table(["weights", "LoRAs", "rank", "alpha", "scale", "parameters", "norm"]);
        for (path, modules) in kinds {
            let parameters = modules.iter().map(|module| module.parameters).sum();
            let norm = modules.iter().fold(0.0f64, |norm, module| norm.hypot(module.norm));
            table.add_row([
                path,
                modules.len().to_string(),
                range(modules.iter().map(|module| module.rank as f64)),
                range(modules.iter().map(|module| module.alpha)),
                range(modules.iter().map(|module| f64::from(module.scale))),
                count(parameters),
                format!("{norm:.4}"),
            ]);
        }
        aligned(table).to_string()
    }

    fn layer_table(&self) -> String {
        let mut table = table(["layer", "LoRAs", "norm"]);
        for (layer, Layer { modules, norm }) in &self.layers {
            table.add_row([layer.to_string(), modules.to_string(), format!("{norm:.4}")]);
        }
        aligned(table).to_string()
    }
}

impl View for AdapterView {
    fn print(&self, canvas: Canvas) -> anyhow::Result<()> {
        let version = self.peft_version.as_deref().unwrap_or("not stated");
        field("adapter", &format!("{}, PEFT version {version}", self.peft_type))?;
        field("base", self.base_model.as_deref().unwrap_or("not stated"))?;
        let bytes = output::bytes(self.bytes);
        let modules = self.modules.len();
        field("size", &format!("{modules} LoRAs, {} parameters, {bytes}", count(self.parameters)))?;
        if let Some(record) = &self.record {
            print_record(record)?;
        }
        if let Some(fit) = &self.fit {
            let verdict =
                fit.reason.as_ref().map_or_else(|| "yes".to_owned(), |why| format!("no: {why}"));
            field("fits", &format!("{}: {verdict}", fit.model.display()))?;
        }
        if !self.zero.is_empty() {
            let names: Vec<&str> = self.zero.iter().map(String::as_str).collect();
            field("zero", &format!("{} updates: {}", names.len(), first_of(&names)))?;
        }
        output::line(&self.module_table())?;
        output::line(&self.layer_table())?;
        let mount = self.record.as_ref().and_then(|record| record.mount.as_ref());
        match mount.and_then(|mount| mount.experts.as_ref()) {
            Some(experts) => print_kept(experts, canvas),
            None => Ok(()),
        }
    }
}

impl Module {
    fn of(summary: LoraSummary) -> Self {
        let LoraSummary { path, rank, alpha, scale, n_experts, parameters, norm, .. } = summary;
        Self { path, rank, alpha, scale, n_experts, parameters, norm }
    }
}

impl Fit {
    fn of(dir: &Path, model: &Path) -> anyhow::Result<Self> {
        let checkpoint = model::open(model)?;
        let (outline, device) = (Outline::of(&checkpoint), cpu()?);
        let loaded = load_for(dir, &outline, model::base_of(&checkpoint, dir), &device);
        let reason = loaded.err().map(|error| error.to_string());
        Ok(Self { model: model.to_owned(), fits: reason.is_none(), reason })
    }
}

fn print_record(record: &AdapterRecord) -> anyhow::Result<()> {
    field("foundation", record.foundation.as_str())?;
    let trained = match &record.plan {
        Some(plan) => format!("the proxy {} of the plan {plan}", record.trained_on),
        None => record.trained_on.to_string(),
    };
    field("tuned on", &format!("{trained}{}", weights_in(record.dtype)))?;
    if let Some(refit) = &record.refit {
        field("refit", refit)?;
    }
    let mounted = match &record.mount {
        Some(mount) => {
            format!("routing {}, scale {}{}", mount.routing, mount.scale, weights_in(mount.dtype))
        }
        None => "no".to_owned(),
    };
    field("mounted", &mounted)
}

fn weights_in(dtype: WeightDtype) -> String {
    if dtype.is_f32() { String::new() } else { format!(", weights in {dtype}") }
}

/// Experts of the proxy that a mounted adapter was tuned on.
fn print_kept(experts: &KeptExperts, canvas: Canvas) -> anyhow::Result<()> {
    let (kept, other) = (canvas.pick('█', '#'), canvas.pick('·', '.'));
    output::line(&format!("one cell per expert: {kept} in its proxy, {other} not"))?;
    let last = |of: &LayerKeptExperts| of.kept.last().copied().unwrap_or(0);
    if let Some((layer, of)) =
        experts.layers.iter().find(|(_, of)| last(of) >= of.n_experts || of.n_experts > MAX_EXPERTS)
    {
        bail!(
            "layer {layer}: its record speaks of {} experts, and keeps expert {}",
            of.n_experts,
            last(of)
        );
    }
    for (layer, of) in &experts.layers {
        let cells: String = (0..of.n_experts)
            .map(|expert| if of.kept.contains(&expert) { kept } else { other })
            .collect();
        let margin = format!("layer {layer}, {} of {}", of.kept.len(), of.n_experts);
        canvas.lines(&margin, &cells).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(())
}

/// Block of a module: the first number in its path.
fn block(path: &str) -> Option<LayerId> {
    let block = path.split('.').find_map(|word| word.parse().ok())?;
    let is_encoder = path.split('.').any(|word| word == "encoder");
    Some(LayerId { stack: if is_encoder { Stack::Encoder } else { Stack::Decoder }, block })
}

/// A path with `#` for each number.
fn numberless(path: &str) -> String {
    let word = |word: &str| {
        let digits = word.trim_start_matches("expert_");
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { word.replace(digits, "#") } else { word.to_owned() }
    };
    path.split('.').map(word).collect::<Vec<_>>().join(".")
}

/// A single value, or `smallest to largest`.
fn range(values: impl Iterator<Item = f64>) -> String {
    let (least, most) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let text =
        |value: f64| format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
    if least < most { format!("{} to {}", text(least), text(most)) } else { text(least) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_differ_in_numbers_are_one_kind() {
        for (path, expected) in [
            ("model.layers.3.mlp.experts.11.up_proj", "model.layers.#.mlp.experts.#.up_proj"),
            (
                "encoder.block.0.layer.1.mlp.experts.expert_2.wi",
                "encoder.block.#.layer.#.mlp.experts.expert_#.wi",
            ),
            ("q_proj", "q_proj"),
        ] {
            assert_eq!(numberless(path), expected);
        }
        assert_eq!(block("encoder.block.4.layer.1.x"), Some(LayerId::encoder(4)));
        assert_eq!(block("model.layers.4.x.7.y"), Some(LayerId::decoder(4)));
        assert_eq!(range([2.0, 2.0].into_iter()), "2");
        assert_eq!(range([0.5, 2.25].into_iter()), "0.5 to 2.25");
    }
}
