use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use litemoe_core::{BiasStage, LayerId, MoeLayer, Plan, RouterBias, RouterRule, UnknownName};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Routing of an app's tokens on the foundation, for an adapter tuned on a proxy: the penalty subtracted from the
/// router logits of experts that the proxy lacks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MountRouting {
    /// No penalty: any expert may be chosen.
    Full,
    /// Infinite penalty: tokens are routed only to the proxy's experts.
    Restricted,
    /// Finite penalty above 0, in logits: another expert is chosen only if its logit is higher by more than that.
    Biased(f32),
}

impl MountRouting {
    /// The penalty on router logits, in [0, ∞].
    pub fn penalty(self) -> f32 {
        match self {
            Self::Full => 0.0,
            Self::Restricted => f32::INFINITY,
            Self::Biased(penalty) => penalty,
        }
    }

    /// The routing with this penalty; `None` if it is NaN or negative.
    pub fn of_penalty(penalty: f32) -> Option<Self> {
        match penalty {
            0.0 => Some(Self::Full),
            f32::INFINITY => Some(Self::Restricted),
            penalty if penalty > 0.0 => Some(Self::Biased(penalty)),
            _ => None,
        }
    }
}

impl fmt::Display for MountRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.pad("full"),
            Self::Restricted => f.pad("restricted"),
            Self::Biased(penalty) => f.pad(&penalty.to_string()),
        }
    }
}

impl FromStr for MountRouting {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = || text.parse::<f32>().ok().filter(|number| number.is_finite());
        let found = match text {
            "full" => Some(Self::Full),
            "restricted" => Some(Self::Restricted),
            _ => number().and_then(Self::of_penalty),
        };
        found.ok_or_else(|| UnknownName {
            what: "routing",
            given: text.to_owned(),
            known: "full, restricted, a number not below 0".to_owned(),
        })
    }
}

impl Serialize for MountRouting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Biased(penalty) => serializer.serialize_f32(*penalty),
            named => serializer.collect_str(named),
        }
    }
}

impl<'de> Deserialize<'de> for MountRouting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Text {
            Name(String),
            Number(f32),
        }
        let text = match Text::deserialize(deserializer)? {
            Text::Name(name) => name,
            Text::Number(number) => number.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Kept experts: the foundation's experts that a proxy has, and the proxy's router rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptExperts {
    /// Router rule of the proxy.
    pub router: RouterRule,
    /// Kept experts per layer.
    pub layers: BTreeMap<LayerId, LayerKeptExperts>,
}

/// Kept experts of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerKeptExperts {
    /// Number of experts in the foundation's layer.
    pub n_experts: usize,
    /// Indices of the kept experts, ascending, each below `n_experts`.
    pub kept: Vec<usize>,
}

impl LayerKeptExperts {
    fn check(&self, layer: &MoeLayer) -> Result<(), KeptError> {
        let (id, n_experts, needed) = (layer.id, layer.n_experts, layer.min_kept());
        if self.n_experts != n_experts {
            return Err(KeptError::ExpertCount { layer: id, found: self.n_experts, n_experts });
        }
        if let Some(&expert) = self.kept.iter().find(|&&expert| expert >= n_experts) {
            return Err(KeptError::NoSuchExpert { layer: id, expert, n_experts });
        }
        if !self.kept.is_sorted_by(|x, y| x < y) {
            return Err(KeptError::Order { layer: id });
        }
        match self.kept.len() {
            kept if kept < needed => Err(KeptError::TooFew { layer: id, kept, needed }),
            _ => Ok(()),
        }
    }
}

/// Errors of kept experts that do not match a model.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum KeptError {
    #[error("layer {layer} is named, but the model has no experts there")]
    NoSuchLayer { layer: LayerId },
    #[error("nothing is said of layer {layer}")]
    MissingLayer { layer: LayerId },
    #[error("layer {layer} has {n_experts} experts, but {found} are spoken of")]
    ExpertCount { layer: LayerId, found: usize, n_experts: usize },
    #[error("layer {layer} has {n_experts} experts, but expert {expert} is named")]
    NoSuchExpert { layer: LayerId, expert: usize, n_experts: usize },
    #[error("the kept experts of layer {layer} are not in ascending order, each once")]
    Order { layer: LayerId },
    #[error("layer {layer} keeps {kept} experts, but its router needs {needed}")]
    TooFew { layer: LayerId, kept: usize, needed: usize },
}

impl KeptExperts {
    /// The kept experts of a plan: its hosts.
    pub fn of_plan(plan: &Plan) -> Self {
        let layer = |(&id, plan): (&LayerId, &litemoe_core::LayerPlan)| {
            (id, LayerKeptExperts { n_experts: plan.n_experts, kept: plan.centroids() })
        };
        Self { router: plan.options.router, layers: plan.layers.iter().map(layer).collect() }
    }

    /// Checks the kept experts against a model's layers: every layer is present with its number of experts, and keeps
    /// enough of them.
    ///
    /// # Errors
    /// [`KeptError`]; no allocation is sized by the record.
    pub fn check(&self, layers: &[MoeLayer]) -> Result<(), KeptError> {
        let known = |id: &LayerId| layers.iter().any(|layer| layer.id == *id);
        if let Some(&layer) = self.layers.keys().find(|id| !known(id)) {
            return Err(KeptError::NoSuchLayer { layer });
        }
        layers.iter().try_for_each(|layer| match self.layers.get(&layer.id) {
            Some(kept) => kept.check(layer),
            None => Err(KeptError::MissingLayer { layer: layer.id }),
        })
    }

    /// Router bias of a routing; `None` for [`MountRouting::Full`].
    ///
    /// # Panics
    /// If a kept expert is not below its layer's number of experts.
    pub fn router_bias(&self, routing: MountRouting) -> Option<RouterBias> {
        if routing == MountRouting::Full {
            return None;
        }
        let layers = self.layers.iter().map(|(&id, layer)| (id, layer.n_experts, &layer.kept[..]));
        let stage = BiasStage::of_rule(self.router);
        Some(RouterBias::keeping(stage, layers, routing.penalty()))
    }
}
