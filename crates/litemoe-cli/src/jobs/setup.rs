use std::path::PathBuf;
use std::time::Duration;

use litemoe_core::WeightDtype;

use crate::args::device::DeviceArgs;

/// What all jobs of a service have in common.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Name of the foundation, as it is served.
    pub(crate) model: String,
    /// Absolute path of its directory.
    pub(crate) foundation: PathBuf,
    /// Maximum memory of a job; `None` for what is available when it begins.
    pub(crate) memory: Option<u64>,
    /// Maximum time of an attempt of a job.
    pub(crate) time: Duration,
    pub(crate) device: DeviceArgs,
    /// Number format of the weights.
    pub(crate) dtype: WeightDtype,
}
