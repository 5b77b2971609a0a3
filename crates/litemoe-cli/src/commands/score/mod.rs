mod measure;
mod merge;
mod report;

use anyhow::Context;
use clap::{Args, Subcommand};

use self::measure::MeasureArgs;
use self::merge::MergeArgs;
use crate::device::DeviceArgs;

/// Measure how much each expert of a model matters on an app's rows
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ScoreCommand {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    measure: Option<MeasureArgs>,
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
            None => self.measure.context("there is nothing to score")?.run(self.device),
        }
    }
}
