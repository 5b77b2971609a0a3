use std::path::{Path, PathBuf};

use anyhow::Context;
use litemoe_adapter::peft::PeftConfig;
use litemoe_adapter::{AdapterRecord, LoadedAdapter, delta_norm, load_for_proxy, save_uniform};
use litemoe_core::{Adapters, Lora, MoeModel, Plan};
use litemoe_model::{Checkpoint, Outline};

use super::refused::Refused;
use crate::args::device::cpu;

/// Maximum length of an adapter's name.
const MAX_NAME: usize = 100;

/// An adapter, with the model name that it is served under.
#[derive(Debug)]
pub(super) struct NamedAdapter {
    pub(super) name: String,
    pub(super) adapters: Adapters,
    config: PeftConfig,
    record: Option<AdapterRecord>,
}

/// Name and directory of `--adapter NAME=DIR`.
///
/// # Errors
/// [`Refused::NoName`], and [`Refused::Name`] for a name that is no file name everywhere, or that a server splits.
pub(super) fn named(given: &str) -> Result<(String, PathBuf), Refused> {
    let Some((name, dir)) = given.split_once('=') else {
        return Err(Refused::NoName { given: given.to_owned() });
    };
    expect_name(name, "an adapter's", "._-")?;
    Ok((name.to_owned(), dir.into()))
}

/// Checks a name that servers take.
///
/// # Errors
/// [`Refused::Name`]
pub(super) fn expect_name(
    name: &str,
    what: &'static str,
    allowed: &'static str,
) -> Result<(), Refused> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || allowed.contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_NAME && name.chars().all(is_allowed) {
        return Ok(());
    }
    Err(Refused::Name { name: name.to_owned(), what, allowed })
}

impl NamedAdapter {
    /// Reads an adapter for a model, and checks that with the model's own routing it computes what it was made for.
    pub(super) fn load(
        name: String,
        dir: &Path,
        checkpoint: &Checkpoint,
        plan: Option<&Plan>,
    ) -> anyhow::Result<Self> {
        let (outline, model) = (Outline::of(checkpoint), checkpoint.fingerprint());
        let loaded = load_for_proxy(dir, &outline, model, plan, &cpu()?);
        let loaded = loaded.with_context(|| {
            let (dir, model) = (dir.display(), checkpoint.dir().display());
            format!("the adapter {dir} cannot be served with {model}")
        })?;
        let LoadedAdapter { mounted, config, record } = loaded;
        let mount = record.as_ref().and_then(|record| record.mount.as_ref());
        if let (Some(_), Some(mount)) = (&mounted.router_bias, mount) {
            return Err(Refused::Routing { adapter: name, routing: mount.routing }.into());
        }
        let is_tuned_elsewhere = |record: &AdapterRecord| {
            record.plan.is_some() && record.mount.is_none() && record.trained_on != *model
        };
        if record.as_ref().is_some_and(is_tuned_elsewhere) {
            return Err(Refused::NotMounted { adapter: name }.into());
        }
        let adapters = mounted.adapters;
        if adapters.loras().all(|(_, lora)| delta_norm(lora) == 0.0) {
            return Err(Refused::Zero { adapter: name }.into());
        }
        Ok(Self { name, adapters, config, record })
    }

    /// The largest rank, to which the others are padded.
    pub(super) fn rank(&self) -> usize {
        self.adapters.loras().map(|(_, lora)| Lora::rank(lora)).max().unwrap_or(0)
    }

    /// Writes the adapter in the form that both servers read. `model` is the name of the model.
    pub(super) fn save(
        &self,
        target: &Path,
        checkpoint: &Checkpoint,
        model: &str,
    ) -> anyhow::Result<()> {
        let outline = Outline::of(checkpoint);
        let config = PeftConfig { base_model: Some(model.to_owned()), ..self.config.clone() };
        let (sites, record) = (outline.linear_sites(), self.record.as_ref());
        Ok(save_uniform(target, &self.adapters, sites, &config, record)?)
    }
}
