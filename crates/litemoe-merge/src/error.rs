use std::error::Error;

use litemoe_core::{Budget, Criterion, ExpertId, Fingerprint, LayerId, SimilarityKind};
use thiserror::Error;

/// Errors of planning, merging and refitting.
#[derive(Debug, Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum MergeError {
    #[error("the model has no mixture-of-experts layers")]
    NoExperts,
    #[error(
        "budget {budget} leaves {kept} experts a layer, but the router of layer {layer} needs {least}; the least \
         budget is {needed} bytes of {total}"
    )]
    BudgetTooSmall {
        budget: Budget,
        kept: usize,
        layer: LayerId,
        least: usize,
        needed: u64,
        total: u64,
    },
    #[error("alpha is {alpha}, but must be a finite number of at least 0")]
    Alpha { alpha: f64 },

    #[error(
        "the scores have version {found}, but this program reads version {expected}: score the model again"
    )]
    ScoresVersion { found: u32, expected: u32 },
    #[error(
        "the scores do not have the sums of {criterion}: they were released for {} alone",
        released.map_or("no criterion", Criterion::name)
    )]
    NotReleased { criterion: Criterion, released: Option<Criterion> },
    #[error("the scores say nothing of layer {layer}")]
    LayerNotScored { layer: LayerId },
    #[error("the scores name layer {layer}, but the model has no experts there")]
    NoSuchLayer { layer: LayerId },
    #[error(
        "layer {layer} has {n_experts} experts, but {scored} of them have a `{criterion}` score"
    )]
    ScoreCount { layer: LayerId, criterion: Criterion, n_experts: usize, scored: usize },
    #[error(
        "{expert}: its `{criterion}` score is {value}, but must be a finite number of at least 0"
    )]
    ScoreValue { expert: ExpertId, criterion: Criterion, value: f64 },

    #[error("merging needs to know how alike the experts are, but that was not measured")]
    NoSimilarity,
    #[error("the plan asks for the similarity `{asked}`, but `{given}` was given")]
    OtherSimilarity { asked: SimilarityKind, given: SimilarityKind },
    #[error(
        "the scores are those of the model {scores}, but the similarity is that of {similarity}"
    )]
    OtherModel { scores: Fingerprint, similarity: Fingerprint },
    #[error(
        "scores and similarity were measured on different data: their token ids have the SHA-256 {scores} and \
         {similarity}"
    )]
    OtherData { scores: String, similarity: String },
    #[error("the similarity says nothing of layer {layer}")]
    LayerNotCompared { layer: LayerId },
    #[error(
        "the similarity of layer {layer} is not a table of {n_experts} by {n_experts} finite numbers"
    )]
    SimilarityTable { layer: LayerId, n_experts: usize },

    #[error("{expert} could not be read")]
    Read { expert: ExpertId, source: Box<dyn Error + Send + Sync> },
    #[error("{expert}: {tensor} has the shape {found:?}, but that of its centroid is {expected:?}")]
    Shape { expert: ExpertId, tensor: &'static str, expected: [usize; 2], found: [usize; 2] },
    #[error("{expert} and its centroid must both have a gate, or neither")]
    Gate { expert: ExpertId },
    #[error("{expert} and its centroid must both have biases of one shape, or neither")]
    Bias { expert: ExpertId },
    #[error("{expert}: its weights, or its centroid's, are not all finite numbers")]
    NotFinite { expert: ExpertId },
    #[error("the plan merges {expert} with an alignment that is not a permutation of its neurons")]
    NotAPermutation { expert: ExpertId },

    #[error("an encoder–decoder cannot be refitted")]
    Encoder,
    #[error("the proxy differs from the foundation in more than the number of its experts")]
    OtherProxy,
    #[error("there are no rows to refit the proxy on")]
    NoRows,
    #[error("a batch of 0 rows cannot be run")]
    EmptyBatch,
    #[error("row {row} holds no tokens")]
    EmptyRow { row: usize },
    #[error("row {row} has {tokens} tokens, but the model takes at most {max_tokens}")]
    LongRow { row: usize, tokens: usize, max_tokens: usize },
    #[error("row {row} holds token {token}, but the vocabulary ends before {vocab}")]
    UnknownToken { row: usize, token: u32, vocab: usize },
    #[error(
        "layer {layer} cannot be refitted: the sums over its kept neurons take {bytes} bytes, and at most {max} are allowed; \
         keep fewer experts"
    )]
    SumsTooLarge { layer: LayerId, bytes: usize, max: usize },
    #[error("the ridge is {ridge}, but must be a finite number above 0")]
    Ridge { ridge: f64 },
    #[error("layer {layer}: a change of rank {rank} is asked for, but its rank is 1 to {largest}")]
    Rank { layer: LayerId, rank: usize, largest: usize },
    #[error(
        "the proxy's blocks told the observer nothing of what goes into the down projections of layer {layer}"
    )]
    NoInner { layer: LayerId },
    #[error("layer {layer} cannot be refitted: the activations' sums are not all finite numbers")]
    RefitNotFinite { layer: LayerId },
    #[error("sums of {found:?} (experts, neurons, width) do not add up with those of {expected:?}")]
    OtherSums { found: [usize; 3], expected: [usize; 3] },
    #[error("the change of layer {layer} could not be taken: {source}")]
    Take { layer: LayerId, source: Box<dyn Error + Send + Sync> },
}
