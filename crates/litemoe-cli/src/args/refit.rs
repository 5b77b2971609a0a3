use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::args::device::DeviceArgs;
use crate::args::refit_kind::RefitKind;
use crate::args::rows::RowArgs;
use crate::artefact;

/// Default rank of a low-rank refit.
pub(crate) const REFIT_RANK: usize = 16;

/// Refit options.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct RefitArgs {
    /// Refit the kept experts' down projections by ridge regression, so that the proxy's residual stream follows the
    /// foundation's on the app's rows.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub(crate) refit: RefitKind,
    /// File of calibration rows of --refit.
    #[arg(long, value_name = "ROWS", required_if_eq_any([("refit", "low-rank"), ("refit", "full")]))]
    pub(crate) data: Option<PathBuf>,
    /// Number of calibration rows, drawn by --seed.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) rows: usize,
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) row_args: RowArgs,
    /// Seed that draws the calibration rows.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Rank of --refit low-rank, at least 1 [default: 16].
    #[arg(long, value_name = "R")]
    pub(crate) refit_rank: Option<usize>,
    /// Output directory of the adapter of --refit low-rank, in PEFT's format [default: the proxy's path with the suffix
    /// -refit].
    #[arg(long, value_name = "DIR")]
    pub(crate) refit_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

impl RefitArgs {
    /// Checks for options without effect and for two outputs with the same path.
    pub(crate) fn check(&self, proxy: &Path) -> anyhow::Result<()> {
        if self.refit == RefitKind::None && self.data.is_some() {
            bail!("--data is for --refit low-rank and full alone");
        }
        if self.refit != RefitKind::LowRank {
            let given = [("rank", self.refit_rank.is_some()), ("out", self.refit_out.is_some())];
            if let Some((option, _)) = given.into_iter().find(|(_, given)| *given) {
                bail!("--refit-{option} is for --refit low-rank alone");
            }
            return Ok(());
        }
        let adapter = self.adapter(proxy);
        if adapter == proxy || artefact::same(&adapter, proxy) {
            bail!("--out and --refit-out are both {}", proxy.display());
        }
        if self.rank() == Some(0) {
            bail!("--refit-rank is 0, but at least 1 is needed");
        }
        Ok(())
    }

    /// Rank of the change; `None` for full rank.
    pub(crate) fn rank(&self) -> Option<usize> {
        (self.refit == RefitKind::LowRank).then_some(self.refit_rank.unwrap_or(REFIT_RANK))
    }

    /// Adapter folder of the low-rank change.
    pub(crate) fn adapter(&self, proxy: &Path) -> PathBuf {
        self.refit_out.clone().unwrap_or_else(|| proxy_refit(proxy))
    }
}

/// Default adapter folder of a proxy's low-rank change: the proxy's name with `-refit` appended.
pub(crate) fn proxy_refit(proxy: &Path) -> PathBuf {
    let mut name = proxy.file_name().unwrap_or_default().to_owned();
    name.push("-refit");
    proxy.with_file_name(name)
}
