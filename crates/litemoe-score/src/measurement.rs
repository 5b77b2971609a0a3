use std::collections::BTreeMap;

use litemoe_core::{
    Activation, ExpertId, Input, LanguageModel, LayerId, LayerScores, MoeLayer, Observer, Pass,
    Routing, SimilarityKind, Stream,
};

use crate::ScoreError;
use crate::affinity::AffinitySums;
use crate::criteria;
use crate::outputs::OutputSums;
use crate::sums::ExpertSums;

/// What one pass over the data has measured so far: sums for every criterion, and for the similarities asked for.
///
/// Measurements of shards of the data, on whatever machines, [add up](Self::merge).
#[derive(Debug, Clone)]
pub struct Measurement {
    layers: Vec<MoeLayer>,
    sums: ExpertSums,
    affinity: Option<AffinitySums>,
    outputs: Option<OutputSums>,
}

impl Measurement {
    /// An empty measurement of a model's mixture-of-experts layers.
    ///
    /// As an [`Observer`] it panics when told of a layer or an expert that is not among them.
    pub fn new(layers: &[MoeLayer], similarities: &[SimilarityKind]) -> Self {
        let wanted = |kind| similarities.contains(&kind);
        Self {
            layers: layers.to_vec(),
            sums: ExpertSums::new(layers),
            affinity: wanted(SimilarityKind::Affinity).then(|| AffinitySums::new(layers)),
            outputs: wanted(SimilarityKind::ExpertOutputGated).then(|| OutputSums::new(layers)),
        }
    }

    /// Measures batches: all of them go through a block before the next block is run, so that a model which reads its
    /// blocks from disk reads each once. The hidden states of all batches are in memory meanwhile. The sums are those of
    /// one batch after the other, to the last bit. The model's head is not run. `progress` is told after each block of
    /// each batch how many rows went through it.
    ///
    /// # Errors
    /// [`ScoreError::NotFinite`] right after the block where it arose; the measurement is then of no use.
    pub fn watch(
        &mut self,
        model: &(impl LanguageModel + ?Sized),
        batches: &[Input],
        mut progress: impl FnMut(usize),
    ) -> Result<(), ScoreError> {
        let mut streams: Vec<Stream> = batches.iter().map(|input| model.embed(input)).collect();
        for index in 0..model.n_blocks() {
            let mut after = Vec::with_capacity(streams.len());
            for (stream, input) in streams.into_iter().zip(batches) {
                after.push(model.block(index, stream, &mut Pass::observed(self)));
                self.check_finite()?;
                progress(input.rows.len());
            }
            streams = after;
        }
        Ok(())
    }

    /// Checks that the model has reported on every layer, and on some expert of each.
    ///
    /// # Errors
    /// [`ScoreError::Unreported`] names the first layer without a token or without an activation.
    pub fn check_reported(&self) -> Result<(), ScoreError> {
        let silent = self.layers.iter().find(|layer| !self.sums.layers()[&layer.id].is_reported());
        silent.map_or(Ok(()), |layer| Err(ScoreError::Unreported { layer: layer.id }))
    }

    /// Adds what another shard of the data gave.
    ///
    /// # Errors
    /// [`ScoreError::OtherMeasurement`] when the layers or the similarities differ; nothing has been added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), ScoreError> {
        if !self.adds_up_with(other) {
            return Err(ScoreError::OtherMeasurement);
        }
        self.sums.merge(&other.sums);
        self.affinity.iter_mut().zip(&other.affinity).for_each(|(sums, more)| sums.merge(more));
        self.outputs.iter_mut().zip(&other.outputs).for_each(|(sums, more)| sums.merge(more));
        Ok(())
    }

    /// Every criterion's values per layer; `seed` is that of the random control.
    pub fn scores(&self, seed: u64) -> BTreeMap<LayerId, LayerScores> {
        let score = |layer: &MoeLayer| {
            let totals = &self.sums.layers()[&layer.id];
            let scores = criteria::scores(layer.id, totals, layer.top_k, seed);
            let (tokens, sums) = (totals.tokens, totals.sums.clone());
            (layer.id, LayerScores { tokens, top_k: layer.top_k, sums, scores })
        };
        self.layers.iter().map(score).collect()
    }

    /// How alike the experts of each layer are, `n_experts` rows of `n_experts` values; `None` when it was not
    /// asked for. `kappa` is that of the affinity.
    pub fn similarities(
        &self,
        kind: SimilarityKind,
        kappa: f64,
    ) -> Option<BTreeMap<LayerId, Vec<Vec<f64>>>> {
        match kind {
            SimilarityKind::Affinity => self.affinity.as_ref().map(|sums| sums.similarities(kappa)),
            SimilarityKind::ExpertOutputGated => {
                self.outputs.as_ref().map(OutputSums::similarities)
            }
        }
    }

    fn adds_up_with(&self, other: &Self) -> bool {
        self.layers == other.layers
            && self.affinity.is_some() == other.affinity.is_some()
            && self.outputs.is_some() == other.outputs.is_some()
    }

    fn check_finite(&self) -> Result<(), ScoreError> {
        match self.sums.not_finite() {
            Some((expert, what)) => Err(ScoreError::NotFinite { expert, what }),
            None => Ok(()),
        }
    }
}

impl Observer for Measurement {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        self.sums.routed(layer, routing);
        self.affinity.iter_mut().for_each(|sums| sums.routed(layer, routing));
    }

    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        self.sums.activated(expert, activation);
        self.outputs.iter_mut().for_each(|sums| sums.activated(expert, activation));
    }
}
