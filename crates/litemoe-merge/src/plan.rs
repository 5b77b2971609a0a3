use std::borrow::Cow;
use std::collections::BTreeMap;

use litemoe_core::{
    AbsorbedExpert, Alignment, Criterion, ExpertScores, ExpertSource, Group, LayerId, LayerPlan,
    MoeLayer, PLAN_VERSION, Plan, PlanOptions, Similarity,
};

use crate::apply::read;
use crate::evidence::{check_scores, check_similarity, table, values};
use crate::merge::check_pair;
use crate::report::{LayerReport, PlanReport};
use crate::{MergeError, Partition, align, kept_per_layer, match_to_centroids, partition};

/// Expert plan: decides which experts of `source` a proxy keeps, merges and prunes under a uniform byte budget.
///
/// `similarity` is used only when experts are merged; if it is `None`, the scores' own similarity is used. Weights are
/// read only for neuron alignment. `progress` is called after each layer. The plan carries the scores' fingerprint: the
/// caller checks that it is the source's.
///
/// # Errors
/// A budget below what some layer's router needs; scores or similarity that are incomplete, not finite, or from another
/// model or other data; an expert that cannot be read.
pub fn make_plan(
    scores: &ExpertScores,
    similarity: Option<&Similarity>,
    source: &(impl ExpertSource + ?Sized),
    options: &PlanOptions,
    progress: &mut dyn FnMut(LayerId),
) -> Result<(Plan, PlanReport), MergeError> {
    let layers = source.moe_layers();
    let similarity = check(scores, similarity, layers, options)?;
    let planner = Planner {
        scores,
        similarity: similarity.as_deref(),
        options,
        kept: kept_per_layer(options.budget, layers)?,
    };
    let (mut plans, mut reports) = (BTreeMap::new(), BTreeMap::new());
    for layer in layers {
        let (plan, report) = planner.layer(layer, source)?;
        plans.insert(layer.id, plan);
        reports.insert(layer.id, report);
        progress(layer.id);
    }
    let plan = Plan {
        version: PLAN_VERSION,
        fingerprint: scores.fingerprint.clone(),
        input_sha256: scores.input_sha256.clone(),
        options: options.clone(),
        layers: plans,
    };
    Ok((plan, PlanReport::new(layers, options.budget, reports)))
}

/// Checks options, scores and similarity before planning. Returns the similarity if experts are merged.
fn check<'a>(
    scores: &ExpertScores,
    similarity: Option<&'a Similarity>,
    layers: &[MoeLayer],
    options: &PlanOptions,
) -> Result<Option<Cow<'a, Similarity>>, MergeError> {
    check_scores(scores, options.score, layers)?;
    let Some(options) = options.method.merging() else { return Ok(None) };
    if !(options.alpha.is_finite() && options.alpha >= 0.0) {
        return Err(MergeError::Alpha { alpha: options.alpha });
    }
    let measured = || scores.similarity(options.similarity).map(Cow::Owned);
    let similarity = similarity.map(Cow::Borrowed).or_else(measured);
    let similarity = similarity.ok_or(MergeError::NoSimilarity)?;
    check_similarity(&similarity, scores, options, layers)?;
    Ok(Some(similarity))
}

/// Inputs common to the plans of all layers.
struct Planner<'a> {
    scores: &'a ExpertScores,
    /// `None`: nothing is merged.
    similarity: Option<&'a Similarity>,
    options: &'a PlanOptions,
    kept: usize,
}

impl Planner<'_> {
    fn layer(
        &self,
        layer: &MoeLayer,
        source: &(impl ExpertSource + ?Sized),
    ) -> Result<(LayerPlan, LayerReport), MergeError> {
        let values = values(self.scores, self.options.score, layer)?;
        let n_groups = layer.groups.map_or(1, |groups| groups.n_groups);
        let merging = self.options.method.merging();
        let cold = merging.map_or(0.0, |options| options.alpha);
        let parts = partition(&values, self.kept, n_groups, cold);
        let centroids = self.centroids(layer, &parts)?;
        let mut groups: Vec<Group> =
            parts.hot.iter().map(|&centroid| group(centroid, &centroids)).collect();
        for group in &mut groups {
            share_out(group, self.options.score, &values);
            if merging.is_some_and(|options| options.alignment == Alignment::Hungarian) {
                align_members(layer.id, group, source)?;
            }
        }
        let removed: Vec<usize> = (0..layer.n_experts)
            .filter(|expert| !parts.hot.contains(expert) && !centroids.contains_key(expert))
            .collect();
        let surplus =
            if self.similarity.is_some() { parts.moderate.len() - centroids.len() } else { 0 };
        let report = LayerReport {
            kept: groups.len(),
            merged: centroids.len(),
            removed: removed.len(),
            surplus,
        };
        Ok((LayerPlan { n_experts: layer.n_experts, groups, removed }, report))
    }

    /// The centroid of every absorbed expert.
    fn centroids(
        &self,
        layer: &MoeLayer,
        parts: &Partition,
    ) -> Result<BTreeMap<usize, usize>, MergeError> {
        let Some((similarity, options)) = self.similarity.zip(self.options.method.merging()) else {
            return Ok(BTreeMap::new());
        };
        let table = table(similarity, layer)?;
        let centroids = match_to_centroids(table, &parts.moderate, &parts.hot, options.max_merged);
        Ok(parts
            .moderate
            .iter()
            .zip(centroids)
            .filter_map(|(&from, to)| Some((from, to?)))
            .collect())
    }
}

/// A centroid and its absorbed experts, ascending; their shares are not set yet.
fn group(centroid: usize, centroids: &BTreeMap<usize, usize>) -> Group {
    let merged = centroids.iter().filter(|&(_, &to)| to == centroid);
    let absorbed = |(&expert, _)| AbsorbedExpert { expert, share: 0.0, alignment: None };
    Group { absorbed: merged.map(absorbed).collect(), ..Group::single(centroid) }
}

/// Sets the merge weights (shares) of a group in proportion to its experts' scores: equal for random scores, or if all
/// scores are 0.
fn share_out(group: &mut Group, criterion: Criterion, scores: &[f64]) {
    let weigh = |expert: usize| if criterion == Criterion::Random { 1.0 } else { scores[expert] };
    let absorbed: f64 = group.absorbed.iter().map(|absorbed| weigh(absorbed.expert)).sum();
    let total = weigh(group.centroid) + absorbed;
    let equal = 1.0 / (group.absorbed.len() + 1) as f64;
    let share = |expert| if total > 0.0 { weigh(expert) / total } else { equal };
    for absorbed in &mut group.absorbed {
        absorbed.share = share(absorbed.expert);
    }
    if !group.absorbed.is_empty() {
        group.share = share(group.centroid);
    }
}

/// Aligns the neurons of a group's absorbed with the centroid's.
fn align_members(
    layer: LayerId,
    group: &mut Group,
    source: &(impl ExpertSource + ?Sized),
) -> Result<(), MergeError> {
    if group.absorbed.is_empty() {
        return Ok(());
    }
    let centroid = read(layer.expert(group.centroid), source)?;
    for absorbed in &mut group.absorbed {
        let id = layer.expert(absorbed.expert);
        let weights = read(id, source)?;
        check_pair(id, &centroid, &weights)?;
        let order = align(&centroid, &weights).ok_or(MergeError::NotFinite { expert: id })?;
        absorbed.alignment = Some(order);
    }
    Ok(())
}
