use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::by_layer;
use crate::{ExpertGroups, Fingerprint, LayerId, MoeLayer, PlanOptions, sha256_hex};

/// Schema version of `plan.json`.
pub const PLAN_VERSION: u32 = 1;

/// Absorbed expert: an expert merged into a centroid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbsorbedExpert {
    /// Expert index in the foundation's layer.
    pub expert: usize,
    /// Weight in the merged average, in [0, 1].
    pub share: f64,
    /// Permutation of neurons: neuron `alignment[j]` of this expert is averaged with the centroid's neuron `j`; `None`
    /// is the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Vec<u32>>,
}

/// A kept expert (the centroid) and the experts it absorbs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Centroid: index of the kept expert in the foundation's layer.
    #[serde(rename = "host")]
    pub centroid: usize,
    /// The centroid's weight in the merged average; the weights of a group sum to 1.
    pub share: f64,
    /// Absorbed experts.
    #[serde(rename = "members", default, skip_serializing_if = "Vec::is_empty")]
    pub absorbed: Vec<AbsorbedExpert>,
}

/// Plan of one layer: kept, absorbed and removed experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// Number of experts in the foundation's layer.
    pub n_experts: usize,
    /// Groups in ascending order of their centroids; group `i` becomes the proxy's expert `i`.
    pub groups: Vec<Group>,
    /// Removed experts, ascending.
    pub removed: Vec<usize>,
}

impl LayerPlan {
    /// Maps each of the foundation's experts to the proxy expert that replaces it; `None` for a removed expert.
    pub fn redirections(&self) -> Vec<Option<usize>> {
        let mut to = vec![None; self.n_experts];
        for (index, group) in self.groups.iter().enumerate() {
            to[group.centroid] = Some(index);
            for absorbed in &group.absorbed {
                to[absorbed.expert] = Some(index);
            }
        }
        to
    }

    /// Indices of the kept experts (centroids) in the foundation, in the proxy's order.
    pub fn centroids(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.centroid).collect()
    }

    /// Whether every expert is kept unchanged.
    pub fn is_identity(&self) -> bool {
        self.groups.len() == self.n_experts
    }

    fn check(&self, id: LayerId, layer: &MoeLayer) -> Result<(), PlanError> {
        let n_experts = layer.n_experts;
        if self.n_experts != n_experts {
            return Err(PlanError::ExpertCount {
                layer: id,
                plan: self.n_experts,
                model: n_experts,
            });
        }
        let (kept, needed) = (self.groups.len(), layer.min_kept());
        if kept < needed {
            return Err(PlanError::TooFew { layer: id, kept, needed });
        }
        let in_order =
            self.groups.is_sorted_by(|x, y| x.centroid < y.centroid) && self.removed.is_sorted();
        if !in_order {
            return Err(PlanError::Order { layer: id });
        }
        let mut seen = BTreeSet::new();
        for expert in self.mentioned() {
            if expert >= n_experts {
                return Err(PlanError::NoSuchExpert { layer: id, n_experts, expert });
            }
            if !seen.insert(expert) {
                return Err(PlanError::Twice { layer: id, expert });
            }
        }
        if let Some(expert) = (0..n_experts).find(|expert| !seen.contains(expert)) {
            return Err(PlanError::Unmentioned { layer: id, expert });
        }
        self.groups.iter().try_for_each(|group| group.check(id, layer.d_expert))?;
        self.check_evenness(id, layer)
    }

    /// Checks that all expert groups keep the same number of experts.
    fn check_evenness(&self, id: LayerId, layer: &MoeLayer) -> Result<(), PlanError> {
        let Some(ExpertGroups { n_groups, .. }) = layer.groups else { return Ok(()) };
        let mut kept = vec![0; n_groups];
        for group in &self.groups {
            kept[group.centroid * n_groups / layer.n_experts] += 1;
        }
        match kept.iter().position(|&count| count != kept[0]) {
            Some(group) => {
                let (kept, first) = (kept[group], kept[0]);
                Err(PlanError::UnevenGroups { layer: id, group, kept, first })
            }
            None => Ok(()),
        }
    }

    /// All experts in the plan.
    fn mentioned(&self) -> impl Iterator<Item = usize> {
        let grouped = self.groups.iter().flat_map(|group| {
            std::iter::once(group.centroid)
                .chain(group.absorbed.iter().map(|absorbed| absorbed.expert))
        });
        grouped.chain(self.removed.iter().copied())
    }
}

impl Group {
    /// A kept expert that absorbs none.
    pub fn single(centroid: usize) -> Self {
        Self { centroid, share: 1.0, absorbed: Vec::new() }
    }

    fn check(&self, layer: LayerId, d_expert: usize) -> Result<(), PlanError> {
        let shares = || std::iter::once(self.share).chain(self.absorbed.iter().map(|m| m.share));
        let sum: f64 = shares().sum();
        if !shares().all(|share| (0.0..=1.0).contains(&share)) || (sum - 1.0).abs() > 1e-6 {
            return Err(PlanError::Shares { layer, centroid: self.centroid, sum });
        }
        for absorbed in &self.absorbed {
            if let Some(order) = &absorbed.alignment {
                let neurons: BTreeSet<u32> = order.iter().copied().collect();
                let whole = order.len() == d_expert && neurons.len() == d_expert;
                if !whole || neurons.last().is_some_and(|&last| last as usize >= d_expert) {
                    return Err(PlanError::NotAPermutation {
                        layer,
                        expert: absorbed.expert,
                        d_expert,
                    });
                }
            }
        }
        Ok(())
    }
}

/// `plan.json`: the experts that a proxy keeps, merges and removes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`]
    pub version: u32,
    /// Fingerprint of the foundation.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the calibration rows' token ids.
    pub input_sha256: String,
    /// Options the plan was made with.
    pub options: PlanOptions,
    /// Plan of each layer.
    #[serde(deserialize_with = "by_layer::deserialize")]
    pub layers: BTreeMap<LayerId, LayerPlan>,
}

impl Plan {
    /// SHA-256, in hex, of the plan's canonical JSON: compact, fields in declaration order, layers ascending.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan is made of numbers, strings and lists");
        sha256_hex(&json)
    }

    /// Whether every layer keeps every expert unchanged.
    pub fn is_identity(&self) -> bool {
        self.layers.values().all(LayerPlan::is_identity)
    }

    /// Checks the plan against the model to apply it to; does not check the options.
    ///
    /// # Errors
    /// The first mismatch.
    pub fn check(&self, fingerprint: &Fingerprint, layers: &[MoeLayer]) -> Result<(), PlanError> {
        if self.version != PLAN_VERSION {
            return Err(PlanError::Version { found: self.version });
        }
        if self.fingerprint != *fingerprint {
            return Err(PlanError::OtherModel {
                plan: self.fingerprint.clone(),
                model: fingerprint.clone(),
            });
        }
        self.check_layers(layers)
    }

    /// Checks only the layers, for a model of unknown fingerprint.
    ///
    /// # Errors
    /// As [`Plan::check`], except version and fingerprint.
    pub fn check_layers(&self, layers: &[MoeLayer]) -> Result<(), PlanError> {
        let known = |id: &LayerId| layers.iter().any(|layer| layer.id == *id);
        if let Some(&layer) = self.layers.keys().find(|id| !known(id)) {
            return Err(PlanError::NoSuchLayer { layer });
        }
        for layer in layers {
            let plan =
                self.layers.get(&layer.id).ok_or(PlanError::MissingLayer { layer: layer.id })?;
            plan.check(layer.id, layer)?;
        }
        Ok(())
    }
}

/// Error: a plan does not fit a model.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum PlanError {
    #[error("the plan has version {found}, but this program reads version {PLAN_VERSION}")]
    Version { found: u32 },
    #[error("the plan was made for the model {plan}, but this model is {model}")]
    OtherModel { plan: Fingerprint, model: Fingerprint },
    #[error("the plan names layer {layer}, but the model has no experts there")]
    NoSuchLayer { layer: LayerId },
    #[error("the plan says nothing of layer {layer}")]
    MissingLayer { layer: LayerId },
    #[error("layer {layer} has {model} experts, but the plan was made for {plan}")]
    ExpertCount { layer: LayerId, plan: usize, model: usize },
    #[error("layer {layer} has {n_experts} experts, but the plan names expert {expert}")]
    NoSuchExpert { layer: LayerId, n_experts: usize, expert: usize },
    #[error("layer {layer}: the plan names expert {expert} twice")]
    Twice { layer: LayerId, expert: usize },
    #[error("layer {layer}: the plan says nothing of expert {expert}")]
    Unmentioned { layer: LayerId, expert: usize },
    #[error("layer {layer}: the kept or the removed experts are not in ascending order")]
    Order { layer: LayerId },
    #[error("layer {layer} keeps {kept} experts, but its router needs {needed}")]
    TooFew { layer: LayerId, kept: usize, needed: usize },
    #[error(
        "layer {layer} keeps {kept} experts of group {group} and {first} of group 0: its router needs as many of each"
    )]
    UnevenGroups { layer: LayerId, group: usize, kept: usize, first: usize },
    #[error(
        "layer {layer}: the shares of expert {centroid} and what is merged into it sum to {sum}, not 1"
    )]
    Shares { layer: LayerId, centroid: usize, sum: f64 },
    #[error(
        "layer {layer}: the alignment of expert {expert} is not a permutation of {d_expert} neurons"
    )]
    NotAPermutation { layer: LayerId, expert: usize, d_expert: usize },
}
