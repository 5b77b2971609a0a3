//! `litemoe app`: the apps of a registry, their keys, settings and usage.

mod add;
mod keys;
mod list;
mod print;
mod settings;
mod show;
mod usage;

use clap::{Args, Subcommand};

/// Manage the apps that `serve` serves: their keys, limits and usage
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    #[command(subcommand)]
    command: AppCommand,
}

#[derive(Debug, Subcommand)]
enum AppCommand {
    Add(add::AddArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Set(settings::SetArgs),
    Rotate(keys::RotateArgs),
    Revoke(keys::RevokeArgs),
    Usage(usage::UsageArgs),
}

impl AppArgs {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self.command {
            AppCommand::Add(args) => args.run(),
            AppCommand::List(args) => args.run(),
            AppCommand::Show(args) => args.run(),
            AppCommand::Set(args) => args.run(),
            AppCommand::Rotate(args) => args.run(),
            AppCommand::Revoke(args) => args.run(),
            AppCommand::Usage(args) => args.run(),
        }
    }
}
