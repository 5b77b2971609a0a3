use litemoe_core::Fingerprint;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Keys of a proxy's safetensors metadata, the fields of `Metadata` below.
pub(crate) const ORIGIN_FOUNDATION: &str = "litemoe_foundation";
pub(crate) const ORIGIN_PLAN: &str = "litemoe_plan";

/// What a proxy was made from, as its weight file says. Other runtimes do not look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The foundation's fingerprint.
    pub foundation: Fingerprint,
    /// The hash of the plan.
    pub plan: String,
}

impl Origin {
    /// From a file's metadata; `None` where the keys are not both there.
    pub(crate) fn of(metadata: &RawValue) -> Result<Option<Self>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Metadata {
            litemoe_foundation: Option<Fingerprint>,
            litemoe_plan: Option<String>,
        }
        let Metadata { litemoe_foundation, litemoe_plan } = serde_json::from_str(metadata.get())?;
        Ok(litemoe_foundation.zip(litemoe_plan).map(|(foundation, plan)| Self { foundation, plan }))
    }
}
