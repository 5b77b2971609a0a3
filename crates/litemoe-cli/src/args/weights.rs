use anyhow::ensure;
use burn::tensor::Device;
use clap::Args;
use litemoe_core::WeightDtype;
use litemoe_kernels::can_pack;
use litemoe_model::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::args::listed;

/// `--dtype` option of every command that keeps a model in memory.
#[derive(Debug, Clone, Copy, Default, Args, Serialize, Deserialize)]
pub(crate) struct WeightArgs {
    /// Number format of the frozen weights in memory. q4 packs the routed experts in 4 bits and what every token uses in 8;
    /// bf16, q8 and q4 round the inputs of products too, to bf16 or 8 bits. Formats other than f32 need the CPU [default: that
    /// of a quantised model, else f32].
    #[arg(long, value_name = "FORMAT", value_parser = listed::weight_dtype())]
    #[serde(default)]
    pub(crate) dtype: Option<WeightDtype>,
}

impl WeightArgs {
    /// The given format, or the default for a model.
    pub(crate) fn of(self, checkpoint: &Checkpoint) -> WeightDtype {
        let own = checkpoint.quantised().map(|quantised| quantised.dtype);
        self.dtype.or(own).unwrap_or_default()
    }

    /// The same for every model: the given format, or the default for one.
    pub(crate) fn fixed_by(self, checkpoint: &Checkpoint) -> Self {
        Self { dtype: Some(self.of(checkpoint)) }
    }

    /// Refuses a format that the device lacks.
    pub(crate) fn check(self, device: &Device) -> anyhow::Result<()> {
        let Some(dtype) = self.dtype else { return Ok(()) };
        ensure!(
            can_pack(device, dtype),
            "--dtype {dtype} needs --device cpu: no other device has it; --dtype f32 has every device"
        );
        Ok(())
    }
}
