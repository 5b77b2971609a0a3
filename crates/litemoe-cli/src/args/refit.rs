use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::args::device::DeviceArgs;
use crate::artefact;

/// How the down projections are solved anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefitKind {
    /// Not at all: the proxy is a view of the foundation.
    #[default]
    None,
    /// In low rank, as an adapter beside the unchanged proxy that `tune --init` goes on from.
    LowRank,
    /// In full: the proxy's own weights change.
    Full,
}

/// The rank of a low-rank change unless it is given.
pub(crate) const REFIT_RANK: usize = 16;

/// The options of the refit.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub(crate) struct RefitArgs {
    /// Solve the kept experts' down projections anew, so that the proxy's hidden states follow the foundation's on the
    /// app's rows.
    #[arg(long, value_name = "KIND", value_enum, default_value_t)]
    pub(crate) refit: RefitKind,
    /// The app's rows for --refit, a JSONL file with `prompt` and `completion`.
    #[arg(long, value_name = "ROWS", required_if_eq_any([("refit", "low-rank"), ("refit", "full")]))]
    pub(crate) data: Option<PathBuf>,
    /// Rows to use, drawn by the seed.
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub(crate) rows: usize,
    /// Rows longer than this many tokens are skipped and counted.
    #[arg(long, default_value_t = 512)]
    pub(crate) max_tokens: usize,
    /// Seed of the rows drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Rank of --refit low-rank [default: 16].
    #[arg(long, value_name = "R")]
    pub(crate) refit_rank: Option<usize>,
    /// The adapter's folder of --refit low-rank, in PEFT's layout [default: the proxy's, with -refit behind].
    #[arg(long, value_name = "DIR")]
    pub(crate) refit_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

impl fmt::Display for RefitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::LowRank => "low-rank",
            Self::Full => "full",
        })
    }
}

impl FromStr for RefitKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ValueEnum::from_str(text, false).map_err(|_| "a refit is none, low-rank or full".to_owned())
    }
}

impl RefitArgs {
    /// Refuses options that would do nothing, and folders in each other's way.
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

    /// `None` for any rank.
    pub(crate) fn rank(&self) -> Option<usize> {
        (self.refit == RefitKind::LowRank).then_some(self.refit_rank.unwrap_or(REFIT_RANK))
    }

    /// Where the low-rank change is written.
    pub(crate) fn adapter(&self, proxy: &Path) -> PathBuf {
        let beside = || {
            let mut name = proxy.file_name().unwrap_or_default().to_owned();
            name.push("-refit");
            proxy.with_file_name(name)
        };
        self.refit_out.clone().unwrap_or_else(beside)
    }
}
