use anyhow::ensure;
use burn::tensor::Device;
use clap::Args;
use litemoe_core::WeightDtype;
use litemoe_kernels::can_pack;
use serde::{Deserialize, Serialize};

use crate::args::listed;

/// `--dtype` option of every command that keeps a model in memory.
#[derive(Debug, Clone, Copy, Default, Args, Serialize, Deserialize)]
pub(crate) struct WeightArgs {
    /// Number format of the frozen weights in memory. q4 packs the routed experts in 4 bits and what every token uses in 8;
    /// bf16, q8 and q4 round the inputs of products too, to bf16 or 8 bits. Formats other than f32 need the CPU.
    #[arg(long, value_name = "FORMAT", default_value_t, value_parser = listed::weight_dtype())]
    pub(crate) dtype: WeightDtype,
}

impl WeightArgs {
    /// Refuses a format that the device lacks.
    pub(crate) fn check(self, device: &Device) -> anyhow::Result<()> {
        let dtype = self.dtype;
        ensure!(
            can_pack(device, dtype),
            "--dtype {dtype} needs --device cpu: no other device has it"
        );
        Ok(())
    }
}
