use anyhow::ensure;
use burn::tensor::Device;
use clap::Args;
use litemoe_core::WeightDtype;
use litemoe_kernels::can_pack;
use serde::{Deserialize, Serialize};

/// `--dtype` option of every command that keeps a model in memory.
#[derive(Debug, Clone, Copy, Default, Args, Serialize, Deserialize)]
pub(crate) struct WeightArgs {
    /// Number format of the frozen weights in memory: f32; bf16 (half of its size); q8 or q4 (integers of 8 or 4 bits with a
    /// scale per 32 inputs). Formats other than f32 need the CPU.
    #[arg(long, default_value_t)]
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
