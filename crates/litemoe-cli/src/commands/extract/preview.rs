use std::path::{Path, PathBuf};

use litemoe_adapter::check_save;
use litemoe_core::{BatchLimits, Sequence, WeightDtype};
use litemoe_model::{Checkpoint, check_proxy_target, proxy_bytes};
use litemoe_score::ScoreOptions;

use super::ExtractArgs;
use crate::args::refit_kind::RefitKind;
use crate::dry_run::DryRun;
use crate::forecast::{Batch, Extraction, Lengths, ModelSize, Refitting, Speed};
use crate::input::Rows;
use crate::memory::anonymous_bytes;
use crate::model::{self, Opened};
use crate::{artefact, disk};

impl ExtractArgs {
    /// Checks everything that can be known before the weights are read, and forecasts what a run would need.
    pub(super) fn preview(&self) -> anyhow::Result<DryRun> {
        let inputs = self.inputs()?;
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        self.refit.check(&self.out)?;
        artefact::expect_no_input(&self.out, &inputs)?;
        check_proxy_target(&self.out)?;
        let mut outputs = vec![self.out.clone()];
        if self.refit.refit == RefitKind::LowRank {
            let adapter = self.refit.adapter(&self.out);
            artefact::expect_no_input(&adapter, &inputs)?;
            check_save(&adapter)?;
            outputs.push(adapter);
        }
        let (checkpoint, rows) = self.opened()?;
        let plan = self.plan(&checkpoint)?;
        let bytes = proxy_bytes(&checkpoint, &plan)?;
        let (foundation, sites) =
            (ModelSize::of(&checkpoint, WeightDtype::F32), checkpoint.linear_sites());
        let kept = plan.layers.values().map(|layer| layer.groups.len()).max().unwrap_or_default();
        let (sequences, skipped): (&[Sequence], usize) = match &rows {
            Some(rows) => (&rows.sequences, rows.skipped),
            None => (&[], 0),
        };
        let (lengths, defaults) = (Lengths::of(sequences), ScoreOptions::default());
        let limits = BatchLimits { rows: defaults.batch, tokens: defaults.batch_tokens };
        let refit = rows.as_ref().map(|_| Refitting {
            rank: self.refit.rank(),
            rows: &lengths,
            batch: Batch::of_scoring(sequences, limits),
        });
        let extraction = Extraction { foundation: &foundation, sites: &sites, kept, refit };
        let memory = extraction.memory(anonymous_bytes());
        let seconds = match refit {
            None => 0.0,
            Some(_) => {
                let speed = Speed::probe(&checkpoint, &self.refit.device.open()?);
                speed.seconds(extraction.flops())
            }
        };
        let written = extraction.written(bytes);
        let free = disk::expect_room(&self.out, written)?;
        let dry_run = DryRun::new((sequences, skipped), memory, seconds, outputs);
        Ok(dry_run.on_disk(written, free))
    }

    /// The foundation, and the calibration rows of a refit.
    fn opened(&self) -> anyhow::Result<(Checkpoint, Option<Rows>)> {
        let Some(data) = &self.refit.data else { return Ok((model::open(&self.model)?, None)) };
        self.refit.device.open()?;
        let opened = Opened::open(&self.model)?;
        let rows = Rows::read(data, &opened, self.refit.row_args)?;
        let rows = rows.drawn(self.refit.rows, self.refit.seed);
        Ok((opened.checkpoint, Some(rows)))
    }
}
