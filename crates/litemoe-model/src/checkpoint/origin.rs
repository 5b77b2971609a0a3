use litemoe_core::Fingerprint;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Keys of a proxy's safetensors metadata, the fields of `Metadata` below.
pub(crate) const ORIGIN_FOUNDATION: &str = "litemoe_foundation";
pub(crate) const ORIGIN_PLAN: &str = "litemoe_plan";
pub(crate) const ORIGIN_REFIT: &str = "litemoe_refit";

/// What a proxy was made from, as its weight file says. Other runtimes do not look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The foundation's fingerprint.
    pub foundation: Fingerprint,
    /// The hash of the plan.
    pub plan: String,
    /// How its down projections were solved anew; `None` where the plan alone says what it is. Such a proxy is no view of the
    /// foundation: what is tuned on it leans on changes that a mounted adapter does not carry.
    pub refit: Option<String>,
}

impl Origin {
    /// From a file's metadata; `None` where the keys are not both there.
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
