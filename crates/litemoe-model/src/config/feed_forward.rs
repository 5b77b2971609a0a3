use litemoe_core::ExpertGroups;
use litemoe_kernels::HiddenAct;
use serde::{Serialize, Serializer};

/// Feed-forward layer of a block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub enum FeedForwardConfig {
    /// Dense MLP.
    Dense(DenseConfig),
    /// Mixture of experts (MoE).
    Moe(MoeConfig),
}

/// Dense MLP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DenseConfig {
    /// Intermediate width.
    pub d_hidden: usize,
    /// Gating and activation, SwiGLU in most families.
    #[serde(skip_serializing_if = "NetworkConfig::is_swiglu")]
    pub network: NetworkConfig,
}

/// Mixture of experts (MoE) layer.
///
/// Fields added later are not serialised at the value that was implicit before, so that fingerprints stay valid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MoeConfig {
    /// Rows of the router; the expert count too, unless a proxy's plan says otherwise.
    pub n_experts: usize,
    /// Top-k: experts per token.
    pub top_k: usize,
    /// Intermediate width of an expert.
    pub d_expert: usize,
    /// Whether the routing weights (gates) of the chosen experts are divided by their sum.
    pub renormalise: bool,
    /// Intermediate width of the shared expert, which every token passes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<usize>,
    /// Whether the shared expert has no sigmoid gate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ungated_shared: bool,
    /// Router activation: scores from router logits.
    #[serde(skip_serializing_if = "RouterKind::is_softmax")]
    pub router: RouterKind,
    /// Whether the router logits have a bias.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub router_bias: bool,
    /// Group-limited routing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupConfig>,
    /// Factor on the routing weights (gates).
    #[serde(skip_serializing_if = "is_one")]
    pub scale: f64,
    /// Expert capacity: tokens of a row that an expert accepts; it drops later ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<usize>,
    /// Gating and activation of an expert.
    #[serde(skip_serializing_if = "NetworkConfig::is_swiglu")]
    pub network: NetworkConfig,
    /// Whether an expert's matrices have biases.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub biased: bool,
}

impl MoeConfig {
    /// Softmax top-k gating over SwiGLU experts, without renormalised gates.
    pub(crate) fn new([n_experts, top_k]: [usize; 2], d_expert: usize) -> Self {
        Self {
            n_experts,
            top_k,
            d_expert,
            renormalise: false,
            shared: None,
            ungated_shared: false,
            router: RouterKind::Softmax,
            router_bias: false,
            groups: None,
            scale: 1.0,
            capacity: None,
            network: NetworkConfig::SWIGLU,
            biased: false,
        }
    }

    /// Constraint of group-limited routing on a plan.
    pub(crate) fn expert_groups(&self) -> Option<ExpertGroups> {
        let GroupConfig { n_groups, top_groups, score } = self.groups?;
        let least = match score {
            GroupScore::Best => 1,
            GroupScore::BestTwo => 2,
        };
        Some(ExpertGroups { n_groups, min_kept: self.top_k.div_ceil(top_groups).max(least) })
    }
}

/// Router activation, and what experts are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub enum RouterKind {
    /// Softmax over all experts.
    Softmax,
    /// Sigmoid router with score correction bias, which affects only the choice (Auxiliary-Loss-Free Load Balancing
    /// Strategy for Mixture-of-Experts, arXiv 2408.15664).
    Sigmoid,
    /// Sigmoid router whose gate multiplies the expert's input instead of its output (Llama 4).
    InputSigmoid,
    /// SparseMixer: top-2 by two successive argmaxes; each gate is a softmax over the experts close to the maximum
    /// (GRIN: GRadient-INformed MoE, arXiv 2409.12136).
    SparseMixer {
        /// Half the relative distance from the maximum within which experts enter the softmax.
        jitter: f64,
    },
}

impl RouterKind {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_softmax(&self) -> bool {
        *self == Self::Softmax
    }
}

/// Group-limited routing: experts are chosen from the best groups only (DeepSeek-V2, arXiv 2405.04434).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupConfig {
    /// Number of groups: equal, contiguous ranges of experts.
    pub n_groups: usize,
    /// Groups that a token's experts come from.
    pub top_groups: usize,
    /// Group score.
    pub score: GroupScore,
}

/// Score of a group of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum GroupScore {
    /// Highest expert score.
    Best,
    /// Sum of the two highest expert scores.
    BestTwo,
}

/// Gating and activation of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Whether the activation's output is multiplied by a second projection (GLU).
    pub gated: bool,
    /// Activation function.
    #[serde(serialize_with = "act")]
    pub act: HiddenAct,
}

impl NetworkConfig {
    pub(crate) const SWIGLU: Self = Self { gated: true, act: HiddenAct::Silu };

    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_swiglu(&self) -> bool {
        *self == Self::SWIGLU
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
fn act<S: Serializer>(act: &HiddenAct, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{act:?}"))
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
fn is_one(factor: &f64) -> bool {
    *factor == 1.0
}
