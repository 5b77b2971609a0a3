//! `litemoe registry`: the registry of apps as a whole.

mod check;
mod collect;

use clap::{Args, Subcommand};

/// Look after the registry of apps
#[derive(Debug, Args)]
pub(crate) struct RegistryCommandArgs {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
enum RegistryCommand {
    Check(check::CheckArgs),
    CollectGarbage(collect::CollectArgs),
}

impl RegistryCommandArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            RegistryCommand::Check(args) => args.run(),
            RegistryCommand::CollectGarbage(args) => args.run(),
        }
    }
}
