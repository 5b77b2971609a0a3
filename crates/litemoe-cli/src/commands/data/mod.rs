//! `litemoe data`: rows before anything is computed with them.

mod check;
mod lengths;
mod report;
mod shown;
mod tokens;

use clap::{Args, Subcommand};

use self::check::CheckArgs;

/// Look at rows
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Check(CheckArgs),
}

impl DataArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            DataCommand::Check(args) => args.run(),
        }
    }
}
