use clap::Args;

use super::print;
use crate::args::registry::RegistryArgs;
use crate::output;

/// List the apps
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the apps as JSON.
    #[arg(long)]
    json: bool,
}

impl ListArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let apps = self.registry.open()?.apps()?;
        if self.json { output::json(&apps) } else { print::table_of(&apps) }
    }
}
