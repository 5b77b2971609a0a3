use std::collections::HashMap;

use litemoe_core::Fingerprint;

/// Keys of a proxy's safetensors metadata.
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
    pub(crate) fn of(metadata: &HashMap<String, String>) -> Option<Self> {
        let foundation = Fingerprint::new(metadata.get(ORIGIN_FOUNDATION)?);
        Some(Self { foundation, plan: metadata.get(ORIGIN_PLAN)?.clone() })
    }
}
