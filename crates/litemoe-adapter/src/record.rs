use std::io::{self, Write};
use std::path::Path;

use litemoe_core::{
    Adapters, Checksummed, Fingerprint, LinearRole, LinearSite, MoeLayer, RouterBias, WeightDtype,
};
use litemoe_files::read_limited;
use serde::{Deserialize, Serialize};

use crate::peft::{self, PeftConfig, PeftSha256};
use crate::{AdapterError, KeptExperts, LoraOptions, MountRouting, Tried, TuneOptions};

/// File name of the adapter record, next to PEFT's files.
pub const RECORD_FILE: &str = "litemoe.json";

/// Version of the schema of `litemoe.json`.
pub const RECORD_VERSION: u32 = 2;

/// Maximum bytes of `litemoe.json`, far above any model.
const MAX_BYTES: u64 = 16 << 20;

/// Mapping of an adapter's sites from the proxy to the foundation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SiteMap {
    /// Same sites: proxy and foundation have the same tensors there.
    Identity,
    /// Expert indices are the proxy's; only the plan maps them to the foundation's.
    Proxy,
    /// Expert indices are the foundation's: a LoRA of a proxy's expert is on the kept expert, or on the centroid (host)
    /// alone if others were merged into it.
    Host,
}

impl SiteMap {
    /// Mapping of an adapter right after tuning, on a proxy or not.
    pub fn tuned(adapters: &Adapters, sites: &[LinearSite], on_proxy: bool) -> Self {
        let is_numbered = |site: &&LinearSite| {
            site.role.is_expert() || matches!(site.role, LinearRole::Router { .. })
        };
        let numbered = sites.iter().filter(is_numbered);
        let mut adapted = numbered.filter(|site| adapters.at(site.site.as_str()).is_some());
        if on_proxy && adapted.next().is_some() { Self::Proxy } else { Self::Identity }
    }
}

/// Final metrics of a tuning run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneMetrics {
    /// The step, from 1, whose adapter is kept.
    pub best_step: usize,
    /// Validation loss: mean negative log-likelihood per token at that step, in nats; `None` without validation rows.
    pub validation_loss: Option<f64>,
    /// Exact-match accuracy on the validation rows at that step.
    pub validation_accuracy: Option<f64>,
    /// Training tokens, over all rows of all steps.
    pub tokens: u64,
}

/// Mounting of an adapter: routing, scale, and the evaluations they were chosen by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountRecord {
    /// Routing of the app's tokens on the foundation.
    pub routing: MountRouting,
    /// Factor on every LoRA's scale; it is already included in α.
    pub scale: f32,
    /// Experts of the proxy the adapter was tuned on; `None` if it was tuned on the foundation.
    pub experts: Option<KeptExperts>,
    /// Evaluations of [`choose_mount`](crate::choose_mount), in order; the foundation alone is first.
    pub tried: Vec<Tried>,
    /// Number format of the foundation's weights in these evaluations; absent for f32.
    #[serde(default, skip_serializing_if = "WeightDtype::is_f32")]
    pub dtype: WeightDtype,
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

/// `litemoe.json`: metadata of an adapter that PEFT's files cannot hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterRecord {
    /// [`RECORD_VERSION`]
    pub version: u32,
    /// Name and version of the program that wrote it.
    pub program: String,
    /// Fingerprint of the foundation the adapter is for.
    pub foundation: Fingerprint,
    /// Fingerprint of the model it was tuned on: a proxy, or the foundation itself.
    pub trained_on: Fingerprint,
    /// Hash of the proxy's plan; `None` if tuned on the foundation.
    pub plan: Option<String>,
    /// Method of the refit if the proxy's own weights were re-solved: the adapter depends on that change but does not
    /// contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<String>,
    /// Mapping of its sites to the foundation's.
    pub map: SiteMap,
    /// Mounting; `None` if not mounted yet.
    pub mount: Option<MountRecord>,
    /// LoRA options.
    pub lora: LoraOptions,
    /// Tuning options.
    pub tune: TuneOptions,
    /// Number format of the frozen weights during tuning; absent for f32.
    #[serde(default, skip_serializing_if = "WeightDtype::is_f32")]
    pub dtype: WeightDtype,
    /// Final metrics of tuning.
    pub metrics: TuneMetrics,
    /// Hashes of PEFT's files, which [`save`](crate::save) sets and reading checks; `None` in records of earlier
    /// versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peft_sha256: Option<PeftSha256>,
}

impl AdapterRecord {
    /// Reads `litemoe.json` in an adapter directory; `None` if there is none, as in adapters of other programs.
    ///
    /// # Errors
    /// A file that cannot be read, has another schema or version, or other contents than its [checksum](Checksummed) is of.
    pub fn read(dir: &Path) -> Result<Option<Self>, AdapterError> {
        let path = dir.join(RECORD_FILE);
        let bytes = match read_limited(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AdapterError::io(&path)(error)),
        };
        check_version(&path, &bytes)?;
        Checksummed::parse(&bytes).map(Some).map_err(AdapterError::checksum(&path))
    }

    /// Checks that PEFT's files in `dir`, read with this configuration and these hashes, are those that the record was
    /// written with.
    ///
    /// # Errors
    /// [`AdapterError::Changed`]
    pub fn check_files(
        &self,
        dir: &Path,
        config: &PeftConfig,
        found: &PeftSha256,
    ) -> Result<(), AdapterError> {
        let Some(stated) = &self.peft_sha256 else { return Ok(()) };
        let tensors = config.model_file();
        let files = [
            (peft::CONFIG_FILE, &found.config, &stated.config),
            (tensors, &found.tensors, &stated.tensors),
        ];
        match files.into_iter().find(|(_, found, stated)| found != stated) {
            Some((file, found, stated)) => {
                let (stated, found) = (stated.clone(), found.clone());
                Err(AdapterError::Changed { path: dir.join(file), stated, found })
            }
            None => Ok(()),
        }
    }

    /// Router bias of a mounted adapter, for a model of these layers; `None` if it has none. `dir` is the directory of
    /// the record, for errors.
    ///
    /// # Errors
    /// A record that contradicts itself or does not match the layers.
    pub fn router_bias(
        &self,
        dir: &Path,
        layers: &[MoeLayer],
    ) -> Result<Option<RouterBias>, AdapterError> {
        let path = dir.join(RECORD_FILE);
        let bias = self.mount.as_ref().map(|mount| mount.router_bias(&path, layers));
        Ok(bias.transpose()?.flatten())
    }

    /// Writes the record as indented JSON with a [checksum](Checksummed).
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut out, &Checksummed(self))?;
        out.write_all(b"\n")
    }

    /// Checks that the adapter may be used with a model: the foundation, or the model it was tuned on. If its expert
    /// indices are those of only one of them, only that one.
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

/// Checks only the version, before parsing fields that other versions may lack.
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
