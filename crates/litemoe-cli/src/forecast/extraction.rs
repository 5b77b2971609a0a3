//! What extracting a proxy needs.

use litemoe_core::{ExpertPart, LinearSite};
use litemoe_merge::RefitOptions;

use super::memory::Memory;
use super::model_size::ModelSize;
use super::rows::{Batch, Lengths};
use super::work::Work;

/// Bytes per value of what a refit computes.
const F32: f64 = 4.0;

/// Extraction of a proxy from its foundation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extraction<'a> {
    pub(crate) foundation: &'a ModelSize,
    /// Linear weights of the foundation.
    pub(crate) sites: &'a [LinearSite],
    /// Maximum number of experts that a layer keeps.
    pub(crate) kept: usize,
    pub(crate) refit: Option<Refitting<'a>>,
}

/// Refit of the proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refitting<'a> {
    /// Rank; `None` for full rank.
    pub(crate) rank: Option<usize>,
    /// Calibration rows, and those that are computed at once.
    pub(crate) rows: &'a Lengths,
    pub(crate) batch: Batch,
}

impl Extraction<'_> {
    /// Peak of anonymous memory, in bytes; `program` is what the process takes without a model.
    pub(crate) fn memory(&self, program: u64) -> u64 {
        let memory = Memory { model: self.foundation, program, adapter: self.adapter() };
        let Some(Refitting { rows, batch, .. }) = self.refit else { return memory.extract() };
        let held_bytes = RefitOptions::default().held_bytes as f64;
        memory.refit(batch, rows.tokens(), self.kept as f64, held_bytes)
    }

    /// Floating-point operations of the models' passes and of the refit.
    pub(crate) fn flops(&self) -> f64 {
        let Some(Refitting { rows, .. }) = self.refit else { return 0.0 };
        let (foundation, kept) = (Work(self.foundation), self.foundation.keeping(self.kept));
        let proxy = Work(&kept);
        foundation.score(rows) + proxy.score(rows) + proxy.refit(rows, self.kept as f64)
    }

    /// Bytes on the disk at once for a proxy of `proxy` bytes. A full refit writes the proxy twice, and its changes.
    pub(crate) fn written(&self, proxy: u64) -> u64 {
        let changes = |values: f64| (F32 * values) as u64;
        match self.refit {
            Some(Refitting { rank: None, .. }) => {
                let values = self.down().map(|site| (site.d_in * site.d_out) as f64);
                2 * proxy + changes(values.sum())
            }
            _ => proxy + changes(self.adapter()),
        }
    }

    /// Values of the adapter of a low-rank refit.
    fn adapter(&self) -> f64 {
        let rank = self.refit.and_then(|refit| refit.rank).unwrap_or_default();
        self.down().map(|site| (rank * (site.d_in + site.d_out)) as f64).sum()
    }

    fn down(&self) -> impl Iterator<Item = &LinearSite> {
        self.sites.iter().filter(|site| is_kept_down(site, self.kept))
    }
}

/// Whether a site is the down projection of one of the first `kept` experts.
pub(crate) fn is_kept_down(site: &LinearSite, kept: usize) -> bool {
    let role = site.role.expert();
    role.is_some_and(|(expert, part)| expert.expert < kept && part == ExpertPart::Down)
}
