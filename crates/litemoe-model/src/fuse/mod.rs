//! Writes a foundation with an adapter added to its weights as a model directory.

mod files;
pub(crate) mod rounding;
mod tensor;
mod update;

use std::path::Path;

use litemoe_core::Adapters;
use litemoe_files::{StagedDir, read_limited};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use self::files::holds_only_model;
use self::files::{FusedFile, fused_files};
use self::rounding::Rounding;
use self::update::updates;
use crate::checkpoint::weight_files;
use crate::config::read::file::CONFIG_LIMITS;
use crate::json::read_json;
use crate::proxy::file::ProxyDir;
use crate::proxy::header::{self, HeaderEntry};
use crate::proxy::names::read_side_file;
use crate::{Checkpoint, ModelError, SIDE_FILES};

/// Key in the metadata of a fused model's weight files: the fingerprint of the model without the adapter.
const FUSED: &str = "litemoe_fused";

/// What [`Fusion::write`] did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Fused {
    /// Number of tensors with a value that changed.
    pub updated: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Size of all tensors, in bytes.
    pub bytes: u64,
    /// Whether experts were MXFP4 and are bf16 now.
    pub dequantised: bool,
    /// Rounding of all weights with an update.
    pub rounding: Rounding,
    /// Tensor with the largest [relative maximum](Rounding::relative_max), and its rounding.
    pub worst: Option<(String, Rounding)>,
}

/// A model with LoRAs added to its weights: W + scale·BA, computed in f64 and rounded to the number format that the tensor
/// has. All other tensors are copied byte for byte. Names, layout of the experts, shards, configuration, and tokenizer
/// files are those of the model.
///
/// If LoRAs are on MXFP4 experts, the experts of all layers are written in bf16, as in a proxy.
pub struct Fusion<'a> {
    checkpoint: &'a Checkpoint,
    files: Vec<FusedFile>,
}

impl<'a> Fusion<'a> {
    /// Finds the tensor of every LoRA; reads no weights.
    ///
    /// # Errors
    /// When the model is a proxy with a router rule of its own or quantised, or a LoRA fits no weight.
    pub fn of(checkpoint: &'a Checkpoint, adapters: &Adapters) -> Result<Self, ModelError> {
        if let Some(plan) = checkpoint.plan() {
            let (dir, rule) = (checkpoint.dir().to_owned(), plan.options.router);
            return Err(ModelError::OwnRouter { dir, rule });
        }
        checkpoint.expect_unquantised("fusing")?;
        let mut updates = updates(checkpoint, adapters)?;
        let files = fused_files(checkpoint, &mut updates)?;
        debug_assert!(updates.is_empty(), "every site has a tensor");
        Ok(Self { checkpoint, files })
    }

    /// Size of all tensors, in bytes.
    pub fn bytes(&self) -> u64 {
        let tensors = self.files.iter().flat_map(|file| &file.tensors);
        tensors.map(|(_, tensor)| tensor.bytes() as u64).sum()
    }

    /// Writes the model. Needs memory for one run of rows or one MXFP4 expert. `wrote` is called with the bytes of each
    /// tensor.
    ///
    /// # Errors
    /// When a sum is not finite in its number format, or `target` exists and is no output of an earlier call; and I/O
    /// errors. `target` is then unchanged.
    pub fn write(&self, target: &Path, wrote: &mut dyn FnMut(u64)) -> Result<Fused, ModelError> {
        self.stage(target, wrote)?.commit()
    }

    /// As [`Self::write`], but leaves the commit to the caller.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn stage<'t>(
        &self,
        target: &'t Path,
        wrote: &mut dyn FnMut(u64),
    ) -> Result<StagedFusion<'t>, ModelError> {
        let Self { checkpoint, files } = self;
        let dir = StagedDir::new(target, is_own).map_err(ModelError::io(target))?;
        let mut out = ProxyDir { dir, target };
        let dequantised = files.iter().any(FusedFile::is_dequantised);
        let mut fused = Fused { dequantised, bytes: self.bytes(), ..Fused::default() };
        out.file("config.json", |out| match dequantised {
            true => out.json(&unquantised(checkpoint)?),
            false => {
                let config = checkpoint.dir().join("config.json");
                let bytes = read_limited(&config, CONFIG_LIMITS.max_bytes);
                out.bytes(&bytes.map_err(ModelError::io(&config))?)
            }
        })?;
        for name in SIDE_FILES.into_iter().filter(|name| checkpoint.dir().join(name).exists()) {
            let bytes = read_side_file(&checkpoint.dir().join(name))?;
            out.file(name, |out| out.bytes(&bytes))?;
        }
        if let Some(index) = files::index(files) {
            out.file(files::INDEX_FILE, |out| out.json(&index))?;
        }
        for file in files {
            write_file(&mut out, checkpoint, file, &mut fused, wrote)?;
        }
        Ok(StagedFusion { dir: out.dir, target, fused })
    }
}

/// Model written to a staging directory, not yet moved to its target. Deleted on drop.
#[derive(Debug)]
pub struct StagedFusion<'t> {
    dir: StagedDir,
    target: &'t Path,
    fused: Fused,
}

impl StagedFusion<'_> {
    /// Moves the model to the target.
    ///
    /// # Errors
    /// I/O errors; the target is then unchanged.
    pub fn commit(self) -> Result<Fused, ModelError> {
        self.dir.commit().map_err(ModelError::io(self.target))?;
        Ok(self.fused)
    }
}

/// Whether a directory holds only what [`Fusion::write`] wrote.
fn is_own(dir: &Path) -> bool {
    files::holds_only_model(dir) && weight_files::all_have(dir, FUSED).unwrap_or(false)
}

/// The configuration without the quantization.
fn unquantised(checkpoint: &Checkpoint) -> Result<Value, ModelError> {
    let mut config: Map<String, Value> =
        read_json(&checkpoint.dir().join("config.json"), CONFIG_LIMITS)?;
    config.shift_remove("quantization_config");
    Ok(config.into())
}

fn write_file(
    dir: &mut ProxyDir<'_>,
    checkpoint: &Checkpoint,
    file: &FusedFile,
    fused: &mut Fused,
    wrote: &mut dyn FnMut(u64),
) -> Result<(), ModelError> {
    let entries = file.tensors.iter().map(|(name, tensor)| HeaderEntry {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        bytes: tensor.bytes(),
    });
    let header = header::of(entries, json!({ FUSED: checkpoint.fingerprint() }));
    dir.file(&file.name, |out| {
        out.bytes(&header)?;
        for (name, tensor) in &file.tensors {
            let rounding = tensor.write(name, checkpoint, out)?;
            fused.add(name, rounding);
            wrote(tensor.bytes() as u64);
        }
        Ok(())
    })
}

impl Fused {
    fn add(&mut self, name: &str, rounding: Rounding) {
        self.tensors += 1;
        self.updated += usize::from(rounding.changed > 0);
        self.rounding += rounding;
        let worst = self.worst.as_ref().map(|(_, worst)| worst.relative_max());
        if rounding.max_delta > 0.0 && worst.is_none_or(|worst| rounding.relative_max() > worst) {
            self.worst = Some((name.to_owned(), rounding));
        }
    }
}
