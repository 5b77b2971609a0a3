use litemoe_core::MountedAdapter;

/// What artefacts call the served foundation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundationId {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Fingerprint of the model that it was quantised from, whose adapters fit it.
    pub source: Option<String>,
}

impl FoundationId {
    /// Whether adapters for a foundation fit.
    pub(crate) fn takes(&self, foundation: &str) -> bool {
        self.fingerprint == foundation || self.source.as_deref() == Some(foundation)
    }
}

impl<T: Into<String>> From<T> for FoundationId {
    fn from(fingerprint: T) -> Self {
        Self { fingerprint: fingerprint.into(), source: None }
    }
}

/// Adapter of a directory, loaded for the served foundation.
#[derive(Debug, Clone)]
pub struct FittingAdapter {
    /// The adapter.
    pub mounted: MountedAdapter,
    /// Fingerprint of the foundation that it was made for.
    pub foundation: String,
}
