use std::num::{NonZeroU32, NonZeroU64};

use anyhow::bail;
use clap::Args;
use litemoe_registry::{Allowed, AppName, Priority, Settings};

use super::print;
use crate::args::limit::Limit;
use crate::args::listed;
use crate::args::registry::RegistryArgs;
use crate::output;

/// Settings of an app. What is not given stays as it is, or has its default.
#[derive(Debug, Args)]
pub(super) struct SettingsArgs {
    /// Models that the app may use, separated by commas; * is every one, and an empty text none [default: *].
    #[arg(long, value_name = "NAMES")]
    models: Option<Allowed>,
    /// Shared adapters that the app may use besides its own, in the same form [default: *].
    #[arg(long, value_name = "NAMES")]
    adapters: Option<Allowed>,
    /// Requests per minute, or none [default: none].
    #[arg(long, value_name = "N")]
    rpm: Option<Limit<NonZeroU32>>,
    /// Tokens of prompts and answers per minute, or none [default: none].
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<Limit<NonZeroU64>>,
    /// Requests at the same time, or none [default: none].
    #[arg(long, value_name = "N")]
    concurrency: Option<Limit<NonZeroU32>>,
    /// Bytes of keys and values that are kept for the app between requests, or none for no limit [default: none].
    #[arg(long, value_name = "BYTES")]
    cache: Option<Limit<u64>>,
    /// Bytes of the app's files and adapters together, or none [default: none].
    #[arg(long, value_name = "BYTES")]
    storage: Option<Limit<u64>>,
    /// Tokens of prompts and answers per day (UTC), or none [default: none].
    #[arg(long, value_name = "TOKENS")]
    budget_per_day: Option<Limit<NonZeroU64>>,
    /// Share of the engine's time, relative to the other apps of the same priority [default: 1].
    #[arg(long, value_name = "N")]
    weight: Option<NonZeroU32>,
    /// Which requests go first [default: interactive].
    #[arg(long, value_name = "PRIORITY", value_parser = listed::priority())]
    priority: Option<Priority>,
}

impl SettingsArgs {
    /// Changes what is given.
    pub(super) fn apply(&self, settings: &mut Settings) {
        fn set<T: Clone>(to: &mut T, given: Option<&T>) {
            if let Some(given) = given {
                to.clone_from(given);
            }
        }
        set(&mut settings.models, self.models.as_ref());
        set(&mut settings.adapters, self.adapters.as_ref());
        set(&mut settings.requests_per_minute, self.rpm.as_ref().map(|limit| &limit.0));
        set(&mut settings.tokens_per_minute, self.tokens_per_minute.as_ref().map(|limit| &limit.0));
        set(&mut settings.concurrency, self.concurrency.as_ref().map(|limit| &limit.0));
        set(&mut settings.cache_bytes, self.cache.as_ref().map(|limit| &limit.0));
        set(&mut settings.storage_bytes, self.storage.as_ref().map(|limit| &limit.0));
        set(&mut settings.tokens_per_day, self.budget_per_day.as_ref().map(|limit| &limit.0));
        set(&mut settings.weight, self.weight.as_ref());
        set(&mut settings.priority, self.priority.as_ref());
    }

    fn is_empty(&self) -> bool {
        let Self { models, adapters, rpm, tokens_per_minute, concurrency, .. } = self;
        let Self { cache, storage, budget_per_day, weight, priority, .. } = self;
        models.is_none()
            && adapters.is_none()
            && rpm.is_none()
            && tokens_per_minute.is_none()
            && concurrency.is_none()
            && cache.is_none()
            && storage.is_none()
            && budget_per_day.is_none()
            && weight.is_none()
            && priority.is_none()
    }
}

/// Change an app's settings
///
/// What is not given stays as it is. A running `serve` applies the settings to the next request.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// The app.
    #[arg(value_name = "NAME")]
    name: AppName,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print the app as JSON.
    #[arg(long)]
    json: bool,
}

impl SetArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.settings.is_empty() {
            bail!("there is nothing to set: give an option, such as --rpm");
        }
        let registry = self.registry.open()?;
        let app = registry.set_app(&self.name, |settings| self.settings.apply(settings))?;
        if self.json { output::json(&app) } else { print::app(&app) }
    }
}
