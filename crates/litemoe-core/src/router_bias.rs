use std::collections::BTreeMap;

use thiserror::Error;

use crate::{ExpertGroups, ExpertId, LayerId, MoeLayer, RouterRule};

/// Router bias: a number for each expert of a layer that is added to the router's logits; −∞ removes the expert.
///
/// Experts are numbered as in the model that the bias is for. Layers without one route as they are. The bias is for an app
/// what a plan is for a proxy: with −∞ at every expert that a `drop_rows` proxy lacks, the foundation computes what that
/// proxy computes, and a number between lets the app fall back on the other experts where they are much the better ones.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterBias {
    stage: BiasStage,
    layers: BTreeMap<LayerId, Vec<f32>>,
}

/// Where a router bias is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasStage {
    /// To the logits: the softmax is over what the bias leaves, as in a [`RouterRule::DropRows`] proxy.
    Logits,
    /// To the scores that come of them, as the factor exp(bias): the gates keep the scale that they have among all
    /// experts, as in a [`RouterRule::Mask`] proxy. The same where chosen scores are divided by their sum.
    Scores,
}

impl BiasStage {
    /// Where a bias is applied so that the model routes as the proxies of a router rule do, where no expert is merged. What
    /// [`RouterRule::Redirect`] and [`RouterRule::RedirectSelected`] move to other experts a bias does not.
    pub fn of_rule(rule: RouterRule) -> Self {
        match rule {
            RouterRule::Mask => Self::Scores,
            RouterRule::DropRows | RouterRule::Redirect | RouterRule::RedirectSelected => {
                Self::Logits
            }
        }
    }
}

impl RouterBias {
    /// A bias of given numbers, finite or −∞.
    ///
    /// # Errors
    /// [`RouterBiasError::NotABias`]
    pub fn new(
        stage: BiasStage,
        layers: BTreeMap<LayerId, Vec<f32>>,
    ) -> Result<Self, RouterBiasError> {
        for (&layer, biases) in &layers {
            let usable = |bias: f32| bias.is_finite() || bias == f32::NEG_INFINITY;
            if let Some(expert) = biases.iter().position(|&bias| !usable(bias)) {
                return Err(RouterBiasError::NotABias {
                    expert: layer.expert(expert),
                    bias: biases[expert],
                });
            }
        }
        Ok(Self { stage, layers })
    }

    /// Takes `penalty` off the logits of every expert that is not kept; ∞ removes them.
    ///
    /// `layers` are numbers of experts and the kept ones among them.
    ///
    /// # Panics
    /// When the penalty is no number or −∞, or a kept expert is none of its layer's.
    pub fn keeping<'a>(
        stage: BiasStage,
        layers: impl IntoIterator<Item = (LayerId, usize, &'a [usize])>,
        penalty: f32,
    ) -> Self {
        assert!(penalty > f32::NEG_INFINITY, "a penalty of {penalty}");
        let layer = |(layer, n_experts, kept): (_, _, &[usize])| {
            let mut biases = vec![-penalty; n_experts];
            kept.iter().for_each(|&expert| biases[expert] = 0.0);
            (layer, biases)
        };
        Self { stage, layers: layers.into_iter().map(layer).collect() }
    }

    /// Where it is applied.
    pub fn stage(&self) -> BiasStage {
        self.stage
    }

    /// The numbers of a layer's experts; `None` where there are none.
    pub fn at(&self, layer: LayerId) -> Option<&[f32]> {
        self.layers.get(&layer).map(Vec::as_slice)
    }

    /// Whether no token can be sent to an expert.
    pub fn removes(&self, expert: ExpertId) -> bool {
        let biases = self.layers.get(&expert.layer);
        biases.is_some_and(|biases| biases.get(expert.expert) == Some(&f32::NEG_INFINITY))
    }

    /// Checks the bias against the model that it is to be used with.
    ///
    /// # Errors
    /// A layer that the model does not have, another number of experts, or fewer experts left than the router needs.
    pub fn check(&self, layers: &[MoeLayer]) -> Result<(), RouterBiasError> {
        for (&id, biases) in &self.layers {
            let layer = layers.iter().find(|layer| layer.id == id);
            let layer = layer.ok_or(RouterBiasError::NoSuchLayer { layer: id })?;
            let (found, expected) = (biases.len(), layer.n_experts);
            if found != expected {
                return Err(RouterBiasError::ExpertCount { layer: id, found, expected });
            }
            check_left(layer, biases)?;
        }
        Ok(())
    }
}

/// Checks that enough experts are left, of every group where the router chooses among groups.
fn check_left(layer: &MoeLayer, biases: &[f32]) -> Result<(), RouterBiasError> {
    let (n_groups, needed) = match layer.groups {
        Some(ExpertGroups { n_groups, min_kept }) => (n_groups, min_kept),
        None => (1, layer.top_k),
    };
    for group in biases.chunks(biases.len() / n_groups) {
        let left = group.iter().filter(|&&bias| bias > f32::NEG_INFINITY).count();
        if left < needed {
            return Err(RouterBiasError::TooFew { layer: layer.id, left, needed });
        }
    }
    Ok(())
}

/// Why a router bias is none, or does not fit a model.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum RouterBiasError {
    #[error("{expert}: a router bias is a finite number or -inf, but this one is {bias}")]
    NotABias { expert: ExpertId, bias: f32 },
    #[error("the router bias names layer {layer}, but the model has no experts there")]
    NoSuchLayer { layer: LayerId },
    #[error("layer {layer} has {expected} experts, but the router bias is for {found}")]
    ExpertCount { layer: LayerId, found: usize, expected: usize },
    #[error("layer {layer}: the router bias leaves {left} experts, but the router needs {needed}")]
    TooFew { layer: LayerId, left: usize, needed: usize },
}
