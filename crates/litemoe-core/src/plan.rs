use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::by_layer;
use crate::{ExpertGroups, Fingerprint, LayerId, MoeLayer, PlanOptions, sha256_hex};

/// Version of the shape of `plan.json`.
pub const PLAN_VERSION: u32 = 1;

/// An expert that is merged into a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its index in the foundation's layer.
    pub expert: usize,
    /// Its share of the merged weights, in [0, 1].
    pub share: f64,
    /// `alignment[j]` is the neuron of this expert that takes the place of the host's neuron `j`; `None` is as it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Vec<u32>>,
}

/// A kept expert and what is merged into it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The kept expert's index in the foundation's layer.
    pub host: usize,
    /// The host's own share of the merged weights; the shares of a group sum to 1.
    pub share: f64,
    /// What is merged into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

/// What becomes of one layer's experts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPlan {
    /// Experts in the foundation's layer.
    pub n_experts: usize,
    /// The kept experts, in ascending order of their hosts: the proxy's expert `i` is group `i`.
    pub groups: Vec<Group>,
    /// The experts that are dropped, ascending.
    pub removed: Vec<usize>,
}

impl LayerPlan {
    /// For each of the foundation's experts, the proxy expert its tokens go to; `None` when it is removed.
    pub fn redirections(&self) -> Vec<Option<usize>> {
        let mut to = vec![None; self.n_experts];
        for (index, group) in self.groups.iter().enumerate() {
            to[group.host] = Some(index);
            for member in &group.members {
                to[member.expert] = Some(index);
            }
        }
        to
    }

    /// The kept experts' indices in the foundation, in the proxy's order.
    pub fn hosts(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.host).collect()
    }

    /// Whether every expert is kept as it is.
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
        let in_order = self.groups.is_sorted_by(|x, y| x.host < y.host) && self.removed.is_sorted();
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

    /// Checks that every group of experts that the router chooses among keeps as many.
    fn check_evenness(&self, id: LayerId, layer: &MoeLayer) -> Result<(), PlanError> {
        let Some(ExpertGroups { n_groups, .. }) = layer.groups else { return Ok(()) };
        let mut kept = vec![0; n_groups];
        for group in &self.groups {
            kept[group.host * n_groups / layer.n_experts] += 1;
        }
        match kept.iter().position(|&count| count != kept[0]) {
            Some(group) => {
                let (kept, first) = (kept[group], kept[0]);
                Err(PlanError::UnevenGroups { layer: id, group, kept, first })
            }
            None => Ok(()),
        }
    }

    /// Every expert the plan speaks of.
    fn mentioned(&self) -> impl Iterator<Item = usize> {
        let grouped = self.groups.iter().flat_map(|group| {
            std::iter::once(group.host).chain(group.members.iter().map(|member| member.expert))
        });
        grouped.chain(self.removed.iter().copied())
    }
}

impl Group {
    /// An expert kept as it is.
    pub fn single(host: usize) -> Self {
        Self { host, share: 1.0, members: Vec::new() }
    }

    fn check(&self, layer: LayerId, d_expert: usize) -> Result<(), PlanError> {
        let shares = || std::iter::once(self.share).chain(self.members.iter().map(|m| m.share));
        let sum: f64 = shares().sum();
        if !shares().all(|share| (0.0..=1.0).contains(&share)) || (sum - 1.0).abs() > 1e-6 {
            return Err(PlanError::Shares { layer, host: self.host, sum });
        }
        for member in &self.members {
            if let Some(order) = &member.alignment {
                let neurons: BTreeSet<u32> = order.iter().copied().collect();
                let whole = order.len() == d_expert && neurons.len() == d_expert;
                if !whole || neurons.last().is_some_and(|&last| last as usize >= d_expert) {
                    return Err(PlanError::NotAPermutation {
                        layer,
                        expert: member.expert,
                        d_expert,
                    });
                }
            }
        }
        Ok(())
    }
}

/// `plan.json`: which experts a proxy keeps, merges and drops.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`]
    pub version: u32,
    /// The fingerprint of the foundation it was made for.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the token ids the scores were measured on.
    pub input_sha256: String,
    /// How it was made.
    pub options: PlanOptions,
    /// Per layer.
    #[serde(deserialize_with = "by_layer::deserialize")]
    pub layers: BTreeMap<LayerId, LayerPlan>,
}

impl Plan {
    /// SHA-256, in hex, of the plan's canonical JSON: compact, fields in order of declaration, layers ascending.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a plan is made of numbers, strings and lists");
        sha256_hex(&json)
    }

    /// Whether every layer keeps every expert as it is.
    pub fn is_identity(&self) -> bool {
        self.layers.values().all(LayerPlan::is_identity)
    }

    /// Checks the plan against the model it is to be applied to; how it was made is not looked at.
    ///
    /// # Errors
    /// Names the first thing that does not fit; nothing has been changed.
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

    /// Checks the plan's layers alone, for a model whose fingerprint is not at hand.
    ///
    /// # Errors
    /// As [`Plan::check`], but for version and fingerprint.
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

/// Why a plan does not fit a model.
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
        "layer {layer}: the shares of expert {host} and what is merged into it sum to {sum}, not 1"
    )]
    Shares { layer: LayerId, host: usize, sum: f64 },
    #[error(
        "layer {layer}: the alignment of expert {expert} is not a permutation of {d_expert} neurons"
    )]
    NotAPermutation { layer: LayerId, expert: usize, d_expert: usize },
}
