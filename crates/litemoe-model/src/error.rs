use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use litemoe_core::{
    CacheDtype, ChecksumError, ExpertId, Fingerprint, LayerId, PlanError, RouterRule, Site,
    WeightDtype,
};
use thiserror::Error;

/// Error of reading or writing a model directory.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum ModelError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: not the JSON it should be: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error(
        "{} was changed or damaged: its contents have the SHA-256 {found}, but {stated} is recorded", path.display()
    )]
    Changed { path: PathBuf, stated: String, found: String },
    #[error("{} was added: the record of the proxy's files has none of that name", path.display())]
    Added { path: PathBuf },
    #[error("{}: the key `{key}` is missing", path.display())]
    MissingKey { path: PathBuf, key: String },
    #[error("{}: `{key}` is {found}, but it must be {expected}", path.display())]
    Value { path: PathBuf, key: String, found: String, expected: String },
    #[error(
        "{}: the key `{key}` is unknown for model type `{model_type}`, and may change what the model computes",
        path.display()
    )]
    UnknownKey { path: PathBuf, key: String, model_type: String },
    #[error("{}: unknown model type `{found}`; known: {known}", path.display())]
    UnknownModelType { path: PathBuf, found: String, known: String },
    #[error("{}: neither model.safetensors nor model.safetensors.index.json is there", dir.display())]
    NoWeights { dir: PathBuf },
    #[error("{}: not a whole safetensors file: {reason}", path.display())]
    Safetensors { path: PathBuf, reason: String },
    #[error("{}: names the file {shard}, which is not there", index.display())]
    MissingShard { index: PathBuf, shard: String },
    #[error("{}: the tensor {tensor} is in {} too, with other values", path.display(), first.display())]
    TwoTensors { path: PathBuf, first: PathBuf, tensor: String },
    #[error("{}: the tensor {tensor} of shape {shape:?} is missing", dir.display())]
    MissingTensor { dir: PathBuf, tensor: String, shape: Vec<usize> },
    #[error("{}: nothing uses the tensor {tensor}", path.display())]
    UnusedTensor { path: PathBuf, tensor: String },
    #[error("{}: the tensor {tensor} has the shape {found:?}, but it must be {expected:?}", path.display())]
    Shape { path: PathBuf, tensor: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("{}: the tensor {tensor} has the dtype {found}; known: F32, BF16, F16, F64, and U8 for 4-bit blocks", path.display())]
    Dtype { path: PathBuf, tensor: String, found: String },
    #[error(
        "{}: the tensor {tensor} is in {found}, but by the quantization_config of config.json it is {}", path.display(),
        expected.unwrap_or("not quantised")
    )]
    QuantisedAs {
        path: PathBuf,
        tensor: String,
        found: &'static str,
        expected: Option<&'static str>,
    },
    #[error("{}: is quantised in {dtype}; {what} needs the model that it was made from, {source_model}", dir.display())]
    IsQuantised { dir: PathBuf, dtype: WeightDtype, what: &'static str, source_model: Fingerprint },
    #[error("{}: is a proxy, and only foundations are quantised", dir.display())]
    QuantisedProxy { dir: PathBuf },
    #[error("{dtype} weights are not quantised; known: q8, q4")]
    UnquantisedFormat { dtype: WeightDtype },
    #[error(
        "a KV cache in {dtype} needs a decoder-only model on the CPU, which this {family} is not"
    )]
    CacheDtype { dtype: CacheDtype, family: &'static str },
    #[error("{dtype} weights need the CPU: no other device has products with them")]
    WeightDtype { dtype: WeightDtype },
    #[error("{}: the tensor {tensor} holds {value} at index {index}", path.display())]
    NotFinite { path: PathBuf, tensor: String, index: usize, value: f32 },
    #[error("{}: the tensor {tensor} holds a value that {dtype} weights cannot hold", path.display())]
    OutOfRange { path: PathBuf, tensor: String, dtype: WeightDtype },
    #[error(
        "{}: the experts of layer {layer} have down projections of the shape {found:?}, but it must be {expected:?}",
        dir.display()
    )]
    ExpertShape { dir: PathBuf, layer: LayerId, found: [usize; 2], expected: [usize; 2] },
    #[error("{}: there is no {expert}", dir.display())]
    NoSuchExpert { dir: PathBuf, expert: ExpertId },
    #[error("{}: {source}", path.display())]
    Plan { path: PathBuf, source: PlanError },
    #[error("{}: is a proxy itself; a proxy is made from a foundation", dir.display())]
    IsProxy { dir: PathBuf },
    #[error(
        "layer {layer} keeps {kept} experts and layer {first} keeps {expected}: router rule drop_rows needs one \
         expert count for all layers"
    )]
    UnevenLayers { layer: LayerId, kept: usize, first: LayerId, expected: usize },
    #[error("{expert} of the plan has the shape {found:?}, but it must be {expected:?}")]
    MergedShape { expert: ExpertId, found: Vec<usize>, expected: Vec<usize> },
    #[error("{expert}, merged, holds a value that is not finite in {dtype}")]
    MergedNotFinite { expert: ExpertId, dtype: &'static str },
    #[error("{found} experts were made for layer {layer}, but the plan keeps {expected}")]
    MergedCount { layer: LayerId, found: usize, expected: usize },
    #[error("{}: the adapter has an update at {site}, but the model has no linear weight there", dir.display())]
    NoSuchSite { dir: PathBuf, site: Site },
    #[error(
        "{}: the update at {site} goes from {found:?}, but the model's weight from {expected:?} (in, out)",
        dir.display()
    )]
    SiteShape { dir: PathBuf, site: Site, found: [usize; 2], expected: [usize; 2] },
    #[error(
        "{}: with its update the tensor {tensor} is not finite in {dtype} at index {index}", path.display()
    )]
    FusedNotFinite { path: PathBuf, tensor: String, index: usize, dtype: &'static str },
    #[error(
        "{}: is a proxy with the router rule {rule}, which an ordinary checkpoint cannot express", dir.display()
    )]
    OwnRouter { dir: PathBuf, rule: RouterRule },
    #[error("the experts of layer {layer} could not be merged: {source}")]
    Merge { layer: LayerId, source: Box<dyn Error + Send + Sync> },
}

impl ModelError {
    /// I/O error at a path.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// JSON error in a file.
    pub(crate) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }

    /// Error of a record with a checksum.
    pub(crate) fn checksum(path: &Path) -> impl FnOnce(ChecksumError) -> Self {
        let path = path.to_owned();
        move |error| match error {
            ChecksumError::Json(source) => Self::Json { path, source },
            ChecksumError::Changed { stated, found } => Self::Changed { path, stated, found },
        }
    }
}
