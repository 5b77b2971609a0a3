mod measure;
mod merge;
mod report;

use anyhow::Context;
use clap::{Args, Subcommand};

pub(crate) use self::measure::{MeasureArgs, ScoreWork};
use self::merge::MergeArgs;
use crate::args::device::DeviceArgs;
use crate::args::rows::RowArgs;
use crate::row_check::{self, Source};
use crate::{fingerprints, work};

/// Score the experts of a model: how much each matters on an app's rows
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ScoreCommand {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    measure: Option<MeasureArgs>,
    #[command(flatten)]
    row_args: RowArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Merge(MergeArgs),
}

impl ScoreCommand {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Some(Verb::Merge(args)) => args.run(),
            None => {
                let measure = self.measure.context("there is nothing to score")?;
                let json = measure.json;
                if measure.dry_run {
                    fingerprints::keep_none();
                }
                row_check::note(&[Source::calibration(&measure.data)])?;
                let Self { row_args, device, .. } = self;
                if measure.dry_run {
                    return measure.preview(row_args, device)?.print(json);
                }
                work::run(&ScoreWork { measure, row_args, device }, json)
            }
        }
    }
}
