use std::io::{self, Write};
use std::path::Path;

use litemoe_core::{Adapters, Fingerprint, LinearSite, MoeLayer, RouterBias};
use serde::{Deserialize, Serialize};

use crate::{AdapterError, KeptExperts, LoraOptions, MountRouting, Tried, TuneOptions};

/// The file's name, beside PEFT's.
pub const RECORD_FILE: &str = "litemoe.json";

/// Version of the shape of `litemoe.json`.
pub const RECORD_VERSION: u32 = 2;

/// How an adapter's sites on the proxy become the foundation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SiteMap {
    /// The same sites: proxy and foundation hold the same tensors there.
    Identity,
    /// Experts are numbered as in the proxy; only the plan says which of the foundation's they are.
    Proxy,
    /// Experts are numbered as in the foundation: an update beside a proxy's expert went to the expert that was kept, and
    /// where others were merged into it, to that one alone.
    Host,
}

impl SiteMap {
    /// Of an adapter as it is tuned, on a proxy or not.
    pub fn tuned(adapters: &Adapters, sites: &[LinearSite], on_proxy: bool) -> Self {
        let experts = sites.iter().filter(|site| site.role.is_expert());
        let mut adapted = experts.filter(|site| adapters.at(site.site.as_str()).is_some());
        if on_proxy && adapted.next().is_some() { Self::Proxy } else { Self::Identity }
    }
}

/// What tuning ended with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneMetrics {
    /// The step, from 1, whose adapter was kept.
    pub best_step: usize,
    /// Mean loss per covered token of the validation rows at that step, in nats; `None` without such rows.
    pub validation_loss: Option<f64>,
    /// The share of validation rows that were exact at that step.
    pub validation_accuracy: Option<f64>,
    /// Tokens seen in training, all rows of all steps.
    pub tokens: u64,
}

/// How an adapter is mounted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountRecord {
    /// How the foundation routes the app's tokens.
    pub routing: MountRouting,
    /// What the updates were multiplied by, which α says too.
    pub scale: f32,
    /// The experts of the proxy it was tuned on; `None` where it was tuned on the foundation.
    pub experts: Option<KeptExperts>,
    /// What the guard measured, in the order it tried: the foundation alone first.
    pub tried: Vec<Tried>,
}

impl MountRecord {
    fn router_bias(
        &self,
        path: &Path,
        layers: &[MoeLayer],
    ) -> Result<Option<RouterBias>, AdapterError> {
        let Some(experts) = &self.experts else {
            return match self.routing {
                MountRouting::Full => Ok(None),
                routing => Err(AdapterError::NoProxyRouting { routing }),
            };
        };
        let path = || path.to_owned();
        experts.check(layers).map_err(|source| AdapterError::Kept { path: path(), source })?;
        Ok(experts.router_bias(self.routing))
    }
}

/// `litemoe.json`: what PEFT's files do not say of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterRecord {
    /// [`RECORD_VERSION`]
    pub version: u32,
    /// The program that wrote it, with its version.
    pub program: String,
    /// The fingerprint of the model the adapter is meant for.
    pub foundation: Fingerprint,
    /// The fingerprint of the model it was trained on: a proxy, or the foundation itself.
    pub trained_on: Fingerprint,
    /// The hash of the plan that made the proxy; `None` when trained on the full model.
    pub plan: Option<String>,
    /// How the proxy's own weights were solved anew, where they were: a change that the adapter leans on and does not carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<String>,
    /// How its tensors map to the foundation's.
    pub map: SiteMap,
    /// How it is mounted; `None` before that.
    pub mount: Option<MountRecord>,
    /// The adapter's shape.
    pub lora: LoraOptions,
    /// How it was trained.
    pub tune: TuneOptions,
    /// What training ended with.
    pub metrics: TuneMetrics,
}

impl AdapterRecord {
    /// Reads `litemoe.json` in an adapter's directory; `None` when there is none, as in adapters of other programs.
    ///
    /// # Errors
    /// A file that cannot be read, is not of this shape, or is of another version.
    pub fn read(dir: &Path) -> Result<Option<Self>, AdapterError> {
        let path = dir.join(RECORD_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AdapterError::io(&path)(error)),
        };
        check_version(&path, &bytes)?;
        serde_json::from_slice(&bytes).map(Some).map_err(AdapterError::json(&path))
    }

    /// The router bias that the adapter brings where it is mounted, for a model of these layers; `dir` is where the record was
    /// read.
    ///
    /// # Errors
    /// A record that contradicts itself, or is not of these layers.
    pub fn router_bias(
        &self,
        dir: &Path,
        layers: &[MoeLayer],
    ) -> Result<Option<RouterBias>, AdapterError> {
        let path = dir.join(RECORD_FILE);
        let bias = self.mount.as_ref().map(|mount| mount.router_bias(&path, layers));
        Ok(bias.transpose()?.flatten())
    }

    /// Writes the record as indented JSON.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut out, self)?;
        out.write_all(b"\n")
    }

    /// Whether the adapter may be used with a model: the foundation, or what it was trained on. Where experts are numbered
    /// as in one of the two, that one alone.
    ///
    /// # Errors
    /// [`AdapterError::OtherBase`], [`AdapterError::OtherExperts`]
    pub fn check_base(&self, model: &Fingerprint) -> Result<(), AdapterError> {
        let [foundation, trained_on] = [&self.foundation, &self.trained_on];
        if ![foundation, trained_on].contains(&model) {
            return Err(AdapterError::OtherBase {
                adapter: foundation.clone(),
                trained_on: trained_on.clone(),
                model: model.clone(),
            });
        }
        let numbered = match self.map {
            SiteMap::Identity => return Ok(()),
            SiteMap::Proxy => trained_on,
            SiteMap::Host => foundation,
        };
        if numbered == model {
            return Ok(());
        }
        Err(AdapterError::OtherExperts { numbered: numbered.clone(), model: model.clone() })
    }
}

/// Looks at the version alone, before fields that another version may not have.
fn check_version(path: &Path, bytes: &[u8]) -> Result<(), AdapterError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let found: Versioned = serde_json::from_slice(bytes).map_err(AdapterError::json(path))?;
    if found.version == RECORD_VERSION {
        return Ok(());
    }
    Err(AdapterError::RecordVersion { path: path.to_owned(), found: found.version })
}
