use clap::Args;
use litemoe_registry::{App, AppName, KeyInfo, Owner, StoredAdapter, Usage};
use serde::Serialize;

use super::print;
use crate::args::registry::RegistryArgs;
use crate::output;

/// Show an app: settings, keys, usage today, adapters
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
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
struct Shown {
    #[serde(flatten)]
    app: App,
    /// Valid keys, without their secrets.
    keys: Vec<KeyInfo>,
    usage_today: Usage,
    own_adapters: Vec<StoredAdapter>,
}

impl ShowArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let registry = self.registry.open()?;
        let shown = Shown {
            app: registry.app(&self.name)?,
            keys: registry.keys(&self.name)?,
            usage_today: registry.usage_today(&self.name)?,
            own_adapters: registry.adapters(&Owner::App(self.name.clone()))?,
        };
        if self.json { output::json(&shown) } else { shown.print() }
    }
}

impl Shown {
    fn print(&self) -> anyhow::Result<()> {
        print::app(&self.app)?;
        for key in &self.keys {
            let end = key.expires.map(|end| format!(", until {}", print::time(end)));
            let end = end.unwrap_or_default();
            print::field("key", &format!("{}, of {}{end}", key.id, print::time(key.created)))?;
        }
        let Usage { requests, .. } = self.usage_today;
        let requests = output::counted(usize::try_from(requests)?, "request", "requests");
        print::field("today", &format!("{requests}, {} tokens", self.usage_today.tokens()))?;
        for adapter in &self.own_adapters {
            let bytes = adapter.files.iter().map(|file| file.bytes).sum();
            let StoredAdapter { name, generation, .. } = adapter;
            let text = format!("{name}, generation {generation}, {}", output::bytes(bytes));
            print::field("adapter", &text)?;
        }
        Ok(())
    }
}
