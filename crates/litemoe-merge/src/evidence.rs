use litemoe_core::{
    Criterion, ExpertScores, LayerId, LitemoeOptions, MoeLayer, SCORES_VERSION, Similarity,
};

use crate::MergeError;

/// Checks that the scores cover exactly these layers, with finite values of at least 0.
pub(crate) fn check_scores(
    scores: &ExpertScores,
    criterion: Criterion,
    layers: &[MoeLayer],
) -> Result<(), MergeError> {
    if scores.version != SCORES_VERSION {
        let (found, expected) = (scores.version, SCORES_VERSION);
        return Err(MergeError::ScoresVersion { found, expected });
    }
    if !scores.has(criterion) {
        let released = scores.privacy.map(|privacy| privacy.criterion);
        return Err(MergeError::NotReleased { criterion, released });
    }
    let known = |id: &LayerId| layers.iter().any(|layer| layer.id == *id);
    if let Some(&layer) = scores.layers.keys().find(|id| !known(id)) {
        return Err(MergeError::NoSuchLayer { layer });
    }
    layers.iter().try_for_each(|layer| values(scores, criterion, layer).map(drop))
}

/// A layer's scores by a criterion: one value per expert, finite and at least 0.
pub(crate) fn values(
    scores: &ExpertScores,
    criterion: Criterion,
    layer: &MoeLayer,
) -> Result<Vec<f64>, MergeError> {
    let (id, n_experts) = (layer.id, layer.n_experts);
    let values = scores.of(id, criterion).ok_or(MergeError::LayerNotScored { layer: id })?;
    if values.len() != n_experts {
        let scored = values.len();
        return Err(MergeError::ScoreCount { layer: id, criterion, n_experts, scored });
    }
    match values.iter().position(|&value| !usable(value)) {
        Some(expert) => {
            let value = values[expert];
            Err(MergeError::ScoreValue { expert: id.expert(expert), criterion, value })
        }
        None => Ok(values),
    }
}

fn usable(score: f64) -> bool {
    score.is_finite() && score >= 0.0
}

/// Checks that the similarity has the requested kind, and the same model and data as the scores.
pub(crate) fn check_similarity(
    similarity: &Similarity,
    scores: &ExpertScores,
    options: &LitemoeOptions,
    layers: &[MoeLayer],
) -> Result<(), MergeError> {
    if similarity.kind != options.similarity {
        let (asked, given) = (options.similarity, similarity.kind);
        return Err(MergeError::OtherSimilarity { asked, given });
    }
    if similarity.fingerprint != scores.fingerprint {
        return Err(MergeError::OtherModel {
            scores: scores.fingerprint.clone(),
            similarity: similarity.fingerprint.clone(),
        });
    }
    if similarity.input_sha256 != scores.input_sha256 {
        return Err(MergeError::OtherData {
            scores: scores.input_sha256.clone(),
            similarity: similarity.input_sha256.clone(),
        });
    }
    layers.iter().try_for_each(|layer| table(similarity, layer).map(drop))
}

/// A layer's similarity matrix, `[n_experts, n_experts]`, all values finite.
pub(crate) fn table<'a>(
    similarity: &'a Similarity,
    layer: &MoeLayer,
) -> Result<&'a [Vec<f64>], MergeError> {
    let (id, n_experts) = (layer.id, layer.n_experts);
    let table = similarity.layers.get(&id).ok_or(MergeError::LayerNotCompared { layer: id })?;
    let square = table.len() == n_experts && table.iter().all(|row| row.len() == n_experts);
    if square && table.iter().flatten().all(|value| value.is_finite()) {
        Ok(table)
    } else {
        Err(MergeError::SimilarityTable { layer: id, n_experts })
    }
}
