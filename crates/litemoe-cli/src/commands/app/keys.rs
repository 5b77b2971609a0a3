use std::time::Duration;

use clap::Args;
use litemoe_registry::{AppName, NewKey};
use serde::Serialize;

use super::print;
use crate::args::registry::RegistryArgs;
use crate::output;

/// Give an app a new key and print it; the old one stops
#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The app.
    #[arg(value_name = "NAME")]
    name: AppName,
    /// Time for which the old keys remain valid; 0 stops them at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    grace: u64,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print name, id and key as JSON.
    #[arg(long)]
    json: bool,
}

/// Revoke an app for good: its keys stop at once
///
/// Its queued and running jobs are cancelled. Its usage, files and adapters are left, and no later app can have its name.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The app.
    #[arg(value_name = "NAME")]
    name: AppName,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the app as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed<'a> {
    name: &'a AppName,
    id: &'a str,
    key: String,
}

impl RotateArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let registry = self.registry.open()?;
        let key = registry.rotate_key(&self.name, Duration::from_secs(self.grace))?;
        print(&self.name, &key, self.json)
    }
}

impl RevokeArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let registry = self.registry.open()?;
        registry.revoke_app(&self.name)?;
        let app = registry.app(&self.name)?;
        if self.json { output::json(&app) } else { print::app(&app) }
    }
}

/// Prints a new key, the only time that it is known.
pub(super) fn print(name: &AppName, key: &NewKey, json: bool) -> anyhow::Result<()> {
    match json {
        true => output::json(&Printed { name, id: key.id(), key: key.reveal() })?,
        false => output::line(&key.reveal())?,
    }
    output::note(&format!("this is the key of `{name}`: keep it, it is not shown again"));
    Ok(())
}
