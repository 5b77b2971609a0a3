use std::collections::BTreeMap;

use litemoe_core::{
    Activation, BlockDriver, ExpertId, Input, LanguageModel, LayerId, LayerSums, MoeLayer,
    Observer, Routing, SimilarityKind,
};

use crate::ScoreError;
use crate::statistics::{NotFinite, add_activation, add_routing};

/// Running sums of a pass over the data, for every criterion and the requested similarities.
///
/// Measurements of shards of the data, even from different machines, can be [merged](Self::merge).
#[derive(Debug, Clone)]
pub struct Measurement {
    layers: BTreeMap<LayerId, LayerSums>,
    /// The first value that is not finite.
    not_finite: Option<(ExpertId, &'static str)>,
}

impl Measurement {
    /// An empty measurement of a model's mixture-of-experts layers.
    ///
    /// Its [`Observer`] methods panic on a layer or an expert that is not among them.
    pub fn new(layers: &[MoeLayer], similarities: &[SimilarityKind]) -> Self {
        let empty = |layer: &MoeLayer| (layer.id, LayerSums::empty(layer, similarities));
        Self { layers: layers.iter().map(empty).collect(), not_finite: None }
    }

    /// Runs batches through the model and adds their sums.
    ///
    /// All batches run through one block before the next, so a model that streams its blocks from disk reads each once.
    /// The hidden states of all batches stay in memory. The sums are bit-identical to running the batches in order. The
    /// model's head is not run. After each block of each batch, `progress` receives the batch's number of rows.
    ///
    /// # Errors
    /// [`ScoreError::NotFinite`] right after the block where it arose; discard the measurement then.
    pub fn add_batches(
        &mut self,
        model: &(impl LanguageModel + ?Sized),
        batches: &[Input],
        mut progress: impl FnMut(usize),
    ) -> Result<(), ScoreError> {
        let mut driver = BlockDriver::new(model, batches);
        for _ in 0..model.n_blocks() {
            driver.run_block(self, |measured, batch| {
                measured.check_finite()?;
                progress(batches[batch].rows.len());
                Ok::<(), ScoreError>(())
            })?;
        }
        Ok(())
    }

    /// Checks that all values were finite.
    pub(crate) fn check_finite(&self) -> Result<(), ScoreError> {
        match self.not_finite {
            Some((expert, what)) => Err(ScoreError::NotFinite { expert, what }),
            None => Ok(()),
        }
    }

    /// Checks that the model reported tokens for every layer, and activations of at least one expert of each.
    ///
    /// # Errors
    /// [`ScoreError::Unreported`] names the first layer without a token or without an activation.
    pub fn check_reported(&self) -> Result<(), ScoreError> {
        let silent = |sums: &LayerSums| sums.tokens == 0 || sums.count.iter().all(|&n| n == 0);
        match self.layers.iter().find(|(_, sums)| silent(sums)) {
            Some((&layer, _)) => Err(ScoreError::Unreported { layer }),
            None => Ok(()),
        }
    }

    /// Adds the sums of another shard of the data. The order of merges does not matter.
    ///
    /// # Errors
    /// [`ScoreError::OtherMeasurement`] if the layers or the similarities differ; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<(), ScoreError> {
        let same = |(x, y): (&LayerSums, &LayerSums)| x.adds_up_with(y);
        if !self.layers.keys().eq(other.layers.keys())
            || !self.layers.values().zip(other.layers.values()).all(same)
        {
            return Err(ScoreError::OtherMeasurement);
        }
        self.layers.values_mut().zip(other.layers.values()).for_each(|(x, y)| x.merge(y));
        self.not_finite = self.not_finite.or(other.not_finite);
        Ok(())
    }

    /// The sums of every layer.
    pub fn into_layers(self) -> BTreeMap<LayerId, LayerSums> {
        self.layers
    }

    /// The sums of a layer that the model reports on.
    fn at(&mut self, layer: LayerId) -> &mut LayerSums {
        self.layers.get_mut(&layer).expect("a model reports only on layers that it declares")
    }

    fn expect_finite(&mut self, layer: LayerId, added: Result<(), NotFinite>) {
        if let Err((expert, what)) = added {
            self.not_finite.get_or_insert((layer.expert(expert), what));
        }
    }
}

impl Observer for Measurement {
    fn routed(&mut self, layer: LayerId, routing: &Routing) {
        let added = add_routing(self.at(layer), routing);
        self.expect_finite(layer, added);
    }

    fn activated(&mut self, expert: ExpertId, activation: &Activation) {
        let added = add_activation(self.at(expert.layer), expert.expert, activation);
        self.expect_finite(expert.layer, added);
    }
}
