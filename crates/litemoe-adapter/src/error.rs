use std::io;
use std::path::{Path, PathBuf};

use litemoe_core::{ChecksumError, Fingerprint, LayerId, PlanError, RouterBiasError, Site};
use thiserror::Error;

use crate::{KeptError, MountRouting};

/// Errors of initialising, tuning, reading, writing and mounting adapters.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum AdapterError {
    #[error("no linear weight of the model matches the target `{target}`; known targets: {known}")]
    UnknownTarget { target: String, known: String },
    #[error("no target is named, so there would be nothing to train")]
    NoTargets,
    #[error("{option} is {given}, but must be {expected}")]
    Option { option: &'static str, given: String, expected: &'static str },
    #[error("{option} is {rank}, but no targeted matrix has a rank above {max}")]
    Rank { option: &'static str, rank: usize, max: usize },
    #[error("there are no {rows} rows")]
    NoRows { rows: &'static str },
    #[error("{rows} row {row}: {problem}")]
    Row { rows: &'static str, row: usize, problem: RowProblem },
    #[error("the loss of step {step} is {loss}; a smaller learning rate may help")]
    LossNotFinite { step: usize, loss: f64 },
    #[error(
        "the gradient of step {step} at {site} is too large, or not finite; a smaller learning rate may help"
    )]
    GradientNotFinite { step: usize, site: Site },
    #[error("row {row}: a logit of the model, or of the model with the adapter, is {logit}")]
    EvaluationNotFinite { row: usize, logit: f32 },

    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error(
        "{} was changed or damaged: its contents have the SHA-256 {found}, but {stated} is recorded", path.display()
    )]
    Changed { path: PathBuf, stated: String, found: String },
    #[error("{}: {source}", path.display())]
    Safetensors { path: PathBuf, source: safetensors::SafeTensorError },
    #[error("{} is not there, so {} is no PEFT adapter", path.display(), directory(path))]
    NotAnAdapter { path: PathBuf },
    #[error("{} is a pickle, which can run code; save the adapter as safetensors", path.display())]
    Pickle { path: PathBuf },
    #[error("{}: `{key}` is missing", path.display())]
    MissingKey { path: PathBuf, key: &'static str },
    #[error("{}: `{key}` is {found}, but {expected}", path.display())]
    Unsupported { path: PathBuf, key: String, found: String, expected: String },
    #[error("{}: unknown key `{key}` with value {found}; it might change what the adapter computes", path.display())]
    UnknownKey { path: PathBuf, key: String, found: String },
    #[error("{}: `{key}` holds the pattern `{pattern}`, which cannot be read: {problem}", path.display())]
    Pattern { path: PathBuf, key: &'static str, pattern: String, problem: String },

    #[error("{}: the tensors {} are the same matrix under two names", path.display(), tensors.join(" and "))]
    TwoNames { path: PathBuf, tensors: [String; 2] },
    #[error("{}: tensor {tensor} is missing", path.display())]
    MissingTensor { path: PathBuf, tensor: String },
    #[error("{}: {count} tensors belong to nothing that the model and the configuration name: {first}", path.display())]
    UnknownTensors { path: PathBuf, count: usize, first: String },
    #[error("{}: tensor {tensor} has shape {found:?}, but {expected:?} is expected", path.display())]
    Shape { path: PathBuf, tensor: String, found: Vec<usize>, expected: [usize; 2] },
    #[error("{}: tensor {tensor} is {found}; f32, bf16 and f16 are read", path.display())]
    Dtype { path: PathBuf, tensor: String, found: String },
    #[error("{}: tensor {tensor} holds a value that is no finite number", path.display())]
    NotFinite { path: PathBuf, tensor: String },

    #[error("the adapter has an update at {site}, but the model has no linear weight there")]
    NoSuchSite { site: Site },
    #[error(
        "the update at {site} goes from {found:?}, but the model's weight from {expected:?} (in, out)"
    )]
    SiteShape { site: Site, found: [usize; 2], expected: [usize; 2] },
    #[error("the update at {site} holds a value that is no finite number")]
    SiteNotFinite { site: Site },
    #[error("{} has version {found}, but this program reads version {}", path.display(), crate::RECORD_VERSION)]
    RecordVersion { path: PathBuf, found: u32 },
    #[error(
        "the adapter was made for the model {adapter} (and trained on {trained_on}), but this model is {model}"
    )]
    OtherBase { adapter: Fingerprint, trained_on: Fingerprint, model: Fingerprint },
    #[error(
        "the adapter's experts are numbered as in the model {numbered}, but this model is {model}"
    )]
    OtherExperts { numbered: Fingerprint, model: Fingerprint },
    #[error("the adapter was tuned on the proxy of the plan {adapter}, but this plan is {plan}")]
    OtherPlan { adapter: String, plan: String },
    #[error("the adapter was not tuned on a proxy, so no plan maps its experts")]
    NoProxy,
    #[error(
        "the adapter has updates of a proxy's experts, and only the plan {plan} says which of the foundation's they \
         are: mount it with that plan"
    )]
    PlanNeeded { plan: String },
    #[error(
        "layer {layer}: the adapter has an update of expert {expert}, but the plan keeps {kept}"
    )]
    ExpertNotKept { layer: LayerId, expert: usize, kept: usize },
    #[error(
        "{routing} routing confines tokens to the experts of a proxy, but the adapter was not tuned on one"
    )]
    NoProxyRouting { routing: MountRouting },
    #[error("{}: the experts that tokens are confined to are not this model's: {source}", path.display())]
    Kept { path: PathBuf, source: KeptError },
    #[error("{} is mounted already: only what was tuned is moved to the foundation", dir.display())]
    Mounted { dir: PathBuf },
    #[error(
        "the adapter is mounted with {routing} routing, which a proxy does not compute: only one with restricted routing is \
         moved back to its proxy"
    )]
    OtherRouting { routing: MountRouting },
    #[error(
        "the adapter is mounted on the foundation, and only the plan {plan} says which of its experts the proxy has, and that \
         they are unchanged there: give the plan, or the adapter that was tuned"
    )]
    MountedPlanNeeded { plan: String },
    #[error(
        "mounted on the foundation the adapter is not what it is on the proxy, because {reason}: give the adapter that was tuned"
    )]
    OtherExpertWeights { reason: &'static str },
    #[error("the adapter's routing does not fit the model: {source}")]
    Routing { source: RouterBiasError },
    #[error(
        "{}: {routing} routing, which PEFT's format cannot say, in a file of that format: `peft_type` is {found}, but \
         {} is expected", path.display(), crate::peft::LITEMOE_TYPE
    )]
    RoutingFormat { path: PathBuf, routing: MountRouting, found: &'static str },
    #[error(
        "{}: `peft_type` is {}, so its litemoe.json must say how tokens are routed, but it does not", path.display(),
        crate::peft::LITEMOE_TYPE
    )]
    NoRouting { path: PathBuf },
    #[error("the plan does not fit the foundation: {source}")]
    Plan { source: PlanError },
    #[error("the adapter's {sites} updates are not zero, but no logit moves: something drops them")]
    NoEffect { sites: usize },
    #[error("without the adapter a logit of the model is {logit}")]
    ModelLogitsNotFinite { logit: f32 },
    #[error("under the adapter a logit is {logit}: its updates are too large")]
    LogitsNotFinite { logit: f32 },

    #[error("{}: the checkpoint is of another run: {what} is {checkpoint} there and {run} here", path.display())]
    OtherRun { path: PathBuf, what: String, checkpoint: String, run: String },
    #[error(
        "{}: a checkpoint of tuning {weights} weights has a header of about {bytes} bytes, but safetensors allows {}: \
         name fewer targets", path.display(), crate::tensors::MAX_HEADER_BYTES
    )]
    CheckpointHeader { path: PathBuf, weights: usize, bytes: u64 },
    #[error("{} is no checkpoint of a tuning run: {problem}", path.display())]
    NotACheckpoint { path: PathBuf, problem: String },
}

/// Errors of a row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum RowProblem {
    #[error("it has {tokens} tokens, but its completion mask has {mask}")]
    Mask { tokens: usize, mask: usize },
    #[error("no token is covered by the loss")]
    NoCompletion,
    #[error("its completion starts at the first token, which nothing can predict")]
    NoPrompt,
    #[error("it has {tokens} tokens, but the model accepts {max}")]
    TooLong { tokens: usize, max: usize },
    #[error(
        "it has {tokens} tokens for an encoder: every row needs some where the model has one, and none where not"
    )]
    Encoder { tokens: usize },
    #[error("token {token} is not below the vocabulary of {vocab}")]
    Token { token: u32, vocab: usize },
}

impl AdapterError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self + '_ {
        move |source| Self::Json { path: path.to_owned(), source }
    }

    pub(crate) fn checksum(path: &Path) -> impl FnOnce(ChecksumError) -> Self + '_ {
        move |error| match error {
            ChecksumError::Json(source) => Self::Json { path: path.to_owned(), source },
            ChecksumError::Changed { stated, found } => {
                Self::Changed { path: path.to_owned(), stated, found }
            }
        }
    }
}

fn directory(path: &Path) -> std::path::Display<'_> {
    path.parent().unwrap_or(path).display()
}
