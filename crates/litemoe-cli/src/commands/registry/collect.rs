use clap::Args;

use crate::args::registry::RegistryArgs;
use crate::output;

/// Remove the contents that nothing refers to, which processes that died have left
#[derive(Debug, Args)]
pub(super) struct CollectArgs {
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl CollectArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let collected = self.registry.open()?.collect_garbage()?;
        if self.json {
            return output::json(&collected);
        }
        let contents = output::counted(usize::try_from(collected.contents)?, "content", "contents");
        output::line(&format!("removed {contents} of {}", output::bytes(collected.bytes)))
    }
}
