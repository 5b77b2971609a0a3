use std::collections::BTreeMap;

use thiserror::Error;

use crate::{ExpertGroups, ExpertId, LayerId, MoeLayer, RouterRule};

/// Router bias: a value per expert, added to the router logits of a layer; −∞ removes the expert.
///
/// Expert indices are those of the model the bias is used with. Layers without a bias route unchanged. With −∞ at every
/// expert that a `drop_rows` proxy lacks, the foundation computes what the proxy computes; a finite negative bias still
/// lets an app use the other experts when their logits are much larger.
#[derive(Debug, Clone, PartialEq)]
pub struct RouterBias {
    stage: BiasStage,
    layers: BTreeMap<LayerId, Vec<f32>>,
}

/// Stage of the router at which the bias applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BiasStage {
    /// Router logits: the softmax normalises over the remaining experts, as in a [`RouterRule::DropRows`] proxy.
    Logits,
    /// Router scores (softmax of the logits), multiplied by exp(bias): gates keep their scale among all experts, as in
    /// a [`RouterRule::Mask`] proxy. Equal to `Logits` if the router renormalises the top-k scores.
    Scores,
}

impl BiasStage {
    /// The stage at which a bias routes as the proxies of `rule` do, for plans without merging. A bias cannot reproduce
    /// the redirections of [`RouterRule::Redirect`] and [`RouterRule::RedirectSelected`].
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
    /// Bias of the given values, finite or −∞.
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

    /// Subtracts `penalty` from the logits of every expert that is not kept; ∞ removes these experts.
    ///
    /// `layers` gives each layer, its number of experts, and the indices of the kept ones.
    ///
    /// # Panics
    /// When the penalty is NaN or −∞, or an index is out of range.
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

    /// Stage at which the bias applies.
    pub fn stage(&self) -> BiasStage {
        self.stage
    }

    /// Biases of a layer's experts; `None` for a layer without a bias.
    pub fn at(&self, layer: LayerId) -> Option<&[f32]> {
        self.layers.get(&layer).map(Vec::as_slice)
    }

    /// Whether the bias removes the expert from routing.
    pub fn removes(&self, expert: ExpertId) -> bool {
        let biases = self.layers.get(&expert.layer);
        biases.is_some_and(|biases| biases.get(expert.expert) == Some(&f32::NEG_INFINITY))
    }

    /// Checks the bias against the model's layers.
    ///
    /// # Errors
    /// A layer that the model does not have, a different number of experts, or fewer remaining experts than the router
    /// needs.
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

/// Checks that enough experts remain; with group-limited routing, in every group.
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

/// Error: an invalid router bias, or one that does not fit a model.
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
