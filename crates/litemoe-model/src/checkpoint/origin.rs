use litemoe_core::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Keys of a proxy's safetensors metadata, the fields of `Metadata` below.
pub(crate) const ORIGIN_FOUNDATION: &str = "litemoe_foundation";
pub(crate) const ORIGIN_PLAN: &str = "litemoe_plan";
pub(crate) const ORIGIN_REFIT: &str = "litemoe_refit";

/// Provenance of a proxy, from the safetensors metadata of its weight file. Other runtimes ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Fingerprint of the foundation.
    pub foundation: Fingerprint,
    /// Hash of the plan.
    pub plan: String,
    /// How the down projections were refitted (solved again); `None` if the plan alone determines the weights. A
    /// refitted proxy is not a submodel of its foundation: an adapter tuned on it relies on changes that mounting does
    /// not carry over.
    pub refit: Option<String>,
}

impl Origin {
    /// Parses a file's metadata; `None` unless it names both foundation and plan.
    pub(crate) fn of(metadata: &RawValue) -> Result<Option<Self>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Metadata {
            litemoe_foundation: Option<Fingerprint>,
            litemoe_plan: Option<String>,
            litemoe_refit: Option<String>,
        }
        let metadata: Metadata = serde_json::from_str(metadata.get())?;
        let made = metadata.litemoe_foundation.zip(metadata.litemoe_plan);
        let refit = metadata.litemoe_refit;
        Ok(made.map(|(foundation, plan)| Self { foundation, plan, refit }))
    }
}
