use litemoe_core::ExpertGroups;
use litemoe_kernels::HiddenAct;
use serde::{Serialize, Serializer};

/// A block's feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub enum FeedForwardConfig {
    /// One network.
    Dense(DenseConfig),
    /// Routed experts.
    Moe(MoeConfig),
}

/// One network: gated, unless the family's are not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DenseConfig {
    /// Its neurons.
    pub d_hidden: usize,
    /// Gating and activation.
    #[serde(skip_serializing_if = "NetworkConfig::is_swiglu")]
    pub network: NetworkConfig,
}

/// Routed experts.
///
/// Fields that came later are left out of the serialised form where they say what was so before, so that fingerprints last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MoeConfig {
    /// Rows of the router, and experts unless a proxy's plan says otherwise.
    pub n_experts: usize,
    /// Experts a token is sent to.
    pub top_k: usize,
    /// Neurons of one expert.
    pub d_expert: usize,
    /// Whether the chosen experts' scores are divided by their sum.
    pub renormalise: bool,
    /// Neurons of the shared expert, a network that every token goes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<usize>,
    /// Whether the shared expert is not weighted by a sigmoid gate of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ungated_shared: bool,
    /// What the router makes of its logits.
    #[serde(skip_serializing_if = "RouterKind::is_softmax")]
    pub router: RouterKind,
    /// Whether the router's logits have a bias.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub router_bias: bool,
    /// Groups of experts that are chosen before experts are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupConfig>,
    /// What gates are multiplied by.
    #[serde(skip_serializing_if = "is_one")]
    pub scale: f64,
    /// The tokens of a row that an expert takes; what comes later gets nothing.
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
    /// Softmax → top-k over gated SiLU experts, the gates as they are.
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

    /// What a plan must heed of the groups.
    pub(crate) fn expert_groups(&self) -> Option<ExpertGroups> {
        let GroupConfig { n_groups, top_groups, score } = self.groups?;
        let least = match score {
            GroupScore::Best => 1,
            GroupScore::BestTwo => 2,
        };
        Some(ExpertGroups { n_groups, min_kept: self.top_k.div_ceil(top_groups).max(least) })
    }
}

/// What a router makes of its logits, and what experts are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub enum RouterKind {
    /// Probabilities over all experts.
    Softmax,
    /// Each expert's own sigmoid. A learnt correction is added for the choice alone (arXiv 2408.15664).
    Sigmoid,
    /// Each expert's own sigmoid, which multiplies the expert's input instead of its output (Llama 4).
    InputSigmoid,
    /// Two experts, each the best of what is left, each gate the softmax over what is nearly as good (GRIN's SparseMixer,
    /// arXiv 2409.12136).
    SparseMixer {
        /// How much worse, relatively, is still nearly as good: twice this.
        jitter: f64,
    },
}

impl RouterKind {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
    fn is_softmax(&self) -> bool {
        *self == Self::Softmax
    }
}

/// Groups of experts (DeepSeek-V2, arXiv 2405.04434).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GroupConfig {
    /// Equal runs of experts.
    pub n_groups: usize,
    /// How many of them a token's experts come from.
    pub top_groups: usize,
    /// What groups are chosen by.
    pub score: GroupScore,
}

/// What a group of experts is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum GroupScore {
    /// Its best expert's score.
    Best,
    /// The sum of its two best experts' scores.
    BestTwo,
}

/// What a network does between its matrices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Whether the activation's output is multiplied by a second matrix's.
    pub gated: bool,
    /// The activation.
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
