//! Writes a model with quantised weights as a model directory.

mod tensor;

use std::path::Path;

use burn::tensor::Device;
use litemoe_core::WeightDtype;
use litemoe_files::StagedDir;
use litemoe_kernels::can_pack;
use serde_json::{Map, Value, json};

use self::tensor::{QuantisedTensor, tensors};
use crate::checkpoint::block_dtype::BlockDtype;
use crate::checkpoint::quantised::{KEY, Quantised};
use crate::config::read::file::CONFIG_LIMITS;
use crate::fuse::holds_only_model;
use crate::json::read_json;
use crate::proxy::file::ProxyDir;
use crate::proxy::header::{self, HeaderEntry};
use crate::proxy::names::{WEIGHT_FILE, read_side_file};
use crate::{Checkpoint, ModelError, SIDE_FILES};

/// A model with its matrices rounded to integers with a scale per 32 inputs, as [`Model::load_as`](crate::Model::load_as)
/// rounds them: loaded in the same format, it has the same weights to the bit. With q4, only routed experts have 4 bits; what
/// every token uses has 8.
///
/// Routers, norms, and biases are copied. Files hold the blocks of a row
/// in the layouts `block_q8_0` and `block_q4_0` of ggml, the last padded with zeros, as tensors of bytes
/// `[…, blocks, bytes of a block]` whose names end in `_q8_0` and `_q4_0`. `quantization_config` names the method `litemoe`,
/// which other runtimes refuse.
pub struct Quantisation<'a> {
    checkpoint: &'a Checkpoint,
    quantised: Quantised,
    tensors: Vec<(String, QuantisedTensor)>,
}

impl<'a> Quantisation<'a> {
    /// Chooses the format of every tensor. Reads no weights but for the fingerprint.
    ///
    /// # Errors
    /// When the format is not a quantised one, or the model is a proxy or quantised already.
    pub fn of(checkpoint: &'a Checkpoint, dtype: WeightDtype) -> Result<Self, ModelError> {
        let Some(blocks) = BlockDtype::of(dtype) else {
            return Err(ModelError::UnquantisedFormat { dtype });
        };
        checkpoint.expect_unquantised("quantising")?;
        if checkpoint.plan().is_some() || checkpoint.origin().is_some() {
            return Err(ModelError::QuantisedProxy { dir: checkpoint.dir().to_owned() });
        }
        let tensors = tensors(checkpoint, blocks);
        let quantised = Quantised { dtype, source: checkpoint.fingerprint().clone() };
        Ok(Self { checkpoint, quantised, tensors })
    }

    /// Size of all tensors, in bytes.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|(_, tensor)| tensor.bytes() as u64).sum()
    }

    /// Number of tensors.
    pub fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Number of tensors that are quantised.
    pub fn n_quantised(&self) -> usize {
        let is_copied = |tensor: &QuantisedTensor| matches!(tensor, QuantisedTensor::Copied(_));
        self.tensors.iter().filter(|(_, tensor)| !is_copied(tensor)).count()
    }

    /// Writes the model to a staging directory. Needs memory for a run of rows or one matrix of an expert. `wrote` is called
    /// with the bytes of each tensor.
    ///
    /// # Errors
    /// When the device is not the CPU, a value is not finite or beyond its format, or `target` exists and is no output of an
    /// earlier call; and I/O errors. `target` is then unchanged.
    pub fn stage<'t>(
        &self,
        target: &'t Path,
        device: &Device,
        wrote: &mut dyn FnMut(u64),
    ) -> Result<StagedQuantisation<'t>, ModelError> {
        let Self { checkpoint, quantised, tensors } = self;
        if !can_pack(device, quantised.dtype) {
            return Err(ModelError::WeightDtype { dtype: quantised.dtype });
        }
        let dir = StagedDir::new(target, is_own).map_err(ModelError::io(target))?;
        let mut out = ProxyDir { dir, target };
        let config = checkpoint.dir().join("config.json");
        let mut config: Map<String, Value> = read_json(&config, CONFIG_LIMITS)?;
        config.insert(KEY.to_owned(), json!(quantised.config()));
        out.file("config.json", |out| out.json(&config))?;
        for name in SIDE_FILES.into_iter().filter(|name| checkpoint.dir().join(name).exists()) {
            let bytes = read_side_file(&checkpoint.dir().join(name))?;
            out.file(name, |out| out.bytes(&bytes))?;
        }
        let entries = tensors.iter().map(|(name, tensor)| HeaderEntry {
            name: name.clone(),
            dtype: tensor.dtype(),
            shape: tensor.shape(),
            bytes: tensor.bytes(),
        });
        let header = header::of(entries, json!({}));
        out.file(WEIGHT_FILE, |out| {
            out.bytes(&header)?;
            for (_, tensor) in tensors {
                tensor.write(checkpoint, device, out)?;
                wrote(tensor.bytes() as u64);
            }
            Ok(())
        })?;
        Ok(StagedQuantisation { dir: out.dir, target })
    }
}

/// Model written to a staging directory, not yet moved to its target. Deleted on drop.
#[derive(Debug)]
pub struct StagedQuantisation<'t> {
    dir: StagedDir,
    target: &'t Path,
}

impl StagedQuantisation<'_> {
    /// Moves the model to the target.
    ///
    /// # Errors
    /// When it cannot be opened, and I/O errors; the target is then unchanged.
    pub fn commit(self) -> Result<(), ModelError> {
        Checkpoint::open(self.dir.path())?;
        self.dir.commit().map_err(ModelError::io(self.target))
    }
}

/// Whether a directory holds only what [`Quantisation::stage`] writes.
fn is_own(dir: &Path) -> bool {
    let is_quantised = || Checkpoint::open(dir).is_ok_and(|found| found.quantised().is_some());
    holds_only_model(dir) && is_quantised()
}
