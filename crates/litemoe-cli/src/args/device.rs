use burn::tensor::Device;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Compute device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// A GPU, through wgpu.
    Gpu,
}

/// `--device` option of every command that computes.
#[derive(Debug, Clone, Copy, Default, Args, Serialize, Deserialize)]
pub(crate) struct DeviceArgs {
    /// Compute device; gpu needs a build with the feature wgpu or vulkan.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) device: DeviceName,
}

impl DeviceArgs {
    /// Opens the device.
    pub(crate) fn open(self) -> anyhow::Result<Device> {
        match self.device {
            DeviceName::Cpu => cpu(),
            DeviceName::Gpu => gpu(),
        }
    }
}

#[cfg(feature = "flex")]
pub(crate) fn cpu() -> anyhow::Result<Device> {
    litemoe_kernels::InstructionSet::chosen()?;
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
pub(crate) fn cpu() -> anyhow::Result<Device> {
    anyhow::bail!("--device cpu: this build has no CPU backend; build with --features flex")
}

#[cfg(feature = "vulkan")]
#[allow(clippy::unnecessary_wraps)]
fn gpu() -> anyhow::Result<Device> {
    Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice))
}

#[cfg(all(feature = "wgpu", not(feature = "vulkan")))]
#[allow(clippy::unnecessary_wraps)]
fn gpu() -> anyhow::Result<Device> {
    Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
}

#[cfg(not(feature = "wgpu"))]
fn gpu() -> anyhow::Result<Device> {
    anyhow::bail!("--device gpu: this build has no GPU backend; build with --features wgpu")
}
