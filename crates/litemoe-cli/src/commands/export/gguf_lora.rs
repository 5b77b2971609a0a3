use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use litemoe_adapter::{delta_norm, load_for};
use litemoe_files::write_file;
use litemoe_model::Outline;
use serde::{Deserialize, Serialize};

use super::gguf_names::architecture;
use super::gguf_tensors::tensors;
use crate::args::device::cpu;
use crate::gguf::{self, GgufValue};
use crate::input_files::InputFiles;
use crate::work::{self, Report, Work};
use crate::{artefact, hub, model, output};

/// Write an adapter as a GGUF LoRA, for llama.cpp
///
/// The file has f32 tensors for a base model that llama.cpp's own converter made of the foundation. Scales of
/// rank-stabilised LoRA and of alpha patterns are multiplied into B, and the LoRAs of a layer's experts are stacked.
/// llama.cpp cannot restrict routing: an adapter that is mounted with any routing but full is refused without --portable.
#[derive(Debug, Args, Serialize, Deserialize)]
pub(super) struct GgufLoraArgs {
    /// The adapter, a PEFT directory.
    #[arg(value_name = "ADAPTER")]
    adapter: PathBuf,
    /// The foundation: a Hugging Face model directory, or the id of a pulled model.
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Output file.
    #[arg(long, value_name = "FILE", default_value = "adapter.gguf")]
    out: PathBuf,
    /// Export the LoRAs with full routing, whatever routing the adapter is mounted with.
    #[arg(long)]
    portable: bool,
    /// Print the report as JSON.
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Report of `export gguf-lora`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Exported {
    gguf: PathBuf,
    architecture: String,
    alpha: f32,
    tensors: usize,
    bytes: u64,
}

impl GgufLoraArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        work::run(&self, self.json)
    }
}

impl Work for GgufLoraArgs {
    type Report = Exported;

    fn execute(&self) -> anyhow::Result<Exported> {
        let dir = self.adapter.display();
        let foundation = hub::locate(&self.model)?;
        artefact::check_file(&self.out, &[&foundation, &self.adapter])?;
        let inputs = InputFiles::of(&[&foundation, &self.adapter]);
        let checkpoint = model::open(&self.model)?;
        model::note_leftovers(&checkpoint);
        let Some(architecture) = architecture(checkpoint.family()) else {
            bail!(
                "{}: llama.cpp has no architecture for {}",
                self.model.display(),
                checkpoint.family()
            );
        };
        let outline = Outline::of(&checkpoint);
        let loaded =
            load_for(&self.adapter, &outline, model::base_of(&checkpoint, &self.adapter), &cpu()?)
                .with_context(|| {
                    format!("the adapter {dir} does not fit {}", self.model.display())
                })?;
        if loaded.mounted.router_bias.is_some() && !self.portable {
            let mount = loaded.record.as_ref().and_then(|record| record.mount.as_ref());
            let routing = mount.map_or_else(String::new, |mount| mount.routing.to_string());
            bail!(
                "the adapter {dir} is mounted with {routing} routing, which llama.cpp cannot apply; --portable exports its \
                 LoRAs with full routing"
            );
        }
        if loaded.mounted.router_bias.is_some() {
            output::note(
                "warning: exported with full routing, with which the adapter was not chosen",
            );
        }
        let adapters = &loaded.mounted.adapters;
        if adapters.loras().all(|(_, lora)| delta_norm(lora) == 0.0) {
            bail!("the adapter {dir} is all zero: it would change nothing");
        }
        let (alpha, tensors) =
            tensors(adapters, &outline, &checkpoint.config().attention, architecture)
                .with_context(|| format!("the adapter {dir}"))?;
        let text = |text: &str| GgufValue::Text(text.to_owned());
        let metadata = [
            ("general.architecture", text(architecture.name)),
            ("general.type", text("adapter")),
            ("adapter.type", text("lora")),
            ("adapter.lora.alpha", GgufValue::F32(alpha)),
        ];
        inputs.expect_unchanged()?;
        write_file(&self.out, |out| gguf::write(out, &metadata, &tensors))
            .with_context(|| format!("cannot write {}", self.out.display()))?;
        let bytes = std::fs::metadata(&self.out).map(|file| file.len());
        Ok(Exported {
            gguf: self.out.clone(),
            architecture: architecture.name.to_owned(),
            alpha,
            tensors: tensors.len(),
            bytes: bytes.with_context(|| format!("cannot read {}", self.out.display()))?,
        })
    }
}

impl Report for Exported {
    fn print(&self) -> anyhow::Result<()> {
        let Self { gguf, architecture, tensors, bytes, .. } = self;
        let (gguf, bytes) = (gguf.display(), output::bytes(*bytes));
        output::line(&format!("{gguf} written: {tensors} tensors for {architecture}, {bytes}"))
    }
}
