use clap::Args;
use litemoe_registry::{AppName, Settings};

use super::keys;
use super::settings::SettingsArgs;
use crate::args::registry::RegistryArgs;

/// Add an app and print its key, which is not stored
///
/// The registry is created if there is none. The name is 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or
/// digit, and no later app can have it.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Name of the app.
    #[arg(value_name = "NAME")]
    name: AppName,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print name, id and key as JSON.
    #[arg(long)]
    json: bool,
}

impl AddArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut settings = Settings::default();
        self.settings.apply(&mut settings);
        let key = self.registry.create()?.add_app(&self.name, &settings)?;
        keys::print(&self.name, &key, self.json)
    }
}
