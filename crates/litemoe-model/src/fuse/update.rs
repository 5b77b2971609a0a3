use std::collections::BTreeMap;

use burn::tensor::Tensor;
use litemoe_core::{
    Adapters, ExpertPart, LinearRole, LinearSite, Lora, MoeModel, Site, StackOrder,
};

use crate::checkpoint::tensors::{is_quantised, is_stacked};
use crate::{Checkpoint, ModelError, Outline};

/// Low-rank update of a matrix in a stored tensor.
#[derive(Debug)]
pub(super) struct Update {
    /// Index of the matrix in a fused tensor `[experts, rows, columns]`; 0 in a matrix of its own.
    pub(super) matrix: usize,
    /// A, `[d_in, rank]`, row-major.
    a: Vec<f32>,
    /// B, `[rank, d_out]`, row-major.
    b: Vec<f32>,
    rank: usize,
    scale: f64,
    place: Place,
}

/// Where an update `[out, in]` lies in a stored matrix.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// From this row.
    Rows { first: usize },
    /// Transposed: output `i` is column `first + i · step`.
    Columns { first: usize, step: usize },
}

impl Update {
    fn new(lora: &Lora, matrix: usize, place: Place) -> Self {
        let values = |tensor: &Tensor<2>| tensor.to_data().iter::<f32>().collect();
        let (a, b, scale) = (values(&lora.a), values(&lora.b), f64::from(lora.scale));
        Self { matrix, a, b, rank: lora.rank(), scale, place }
    }

    /// Adds the update's part in a stored row to `delta`, one value per column.
    pub(super) fn add_row(&self, row: usize, delta: &mut [f64]) {
        let d_out = self.b.len() / self.rank;
        match self.place {
            Place::Rows { first } if row < first || row >= first + d_out => {}
            Place::Rows { first } => {
                let b: Vec<f64> = (0..self.rank)
                    .map(|slot| self.scale * f64::from(self.b[slot * d_out + row - first]))
                    .collect();
                for (delta, a) in delta.iter_mut().zip(self.a.chunks(self.rank)) {
                    *delta += a.iter().zip(&b).map(|(&a, b)| f64::from(a) * b).sum::<f64>();
                }
            }
            Place::Columns { first, step } => {
                let a = &self.a[row * self.rank..][..self.rank];
                for (&a, b) in a.iter().zip(self.b.chunks(d_out)) {
                    let a = self.scale * f64::from(a);
                    let columns = delta[first..].iter_mut().step_by(step);
                    columns.zip(b).for_each(|(delta, &b)| *delta += a * f64::from(b));
                }
            }
        }
    }
}

/// Updates of each stored tensor, by its name; experts in MXFP4 by the name of their dequantised tensor.
///
/// # Errors
/// A LoRA at a site that the model does not have, or of another shape.
pub(super) fn updates(
    checkpoint: &Checkpoint,
    adapters: &Adapters,
) -> Result<BTreeMap<String, Vec<Update>>, ModelError> {
    let outline = Outline::of(checkpoint);
    let sites = outline.linear_sites().iter().map(|linear| (&linear.site, linear));
    let sites: BTreeMap<&Site, &LinearSite> = sites.collect();
    let mut updates: BTreeMap<String, Vec<Update>> = BTreeMap::new();
    for (site, lora) in adapters.loras() {
        let dir = || checkpoint.dir.clone();
        let linear = sites
            .get(site)
            .ok_or_else(|| ModelError::NoSuchSite { dir: dir(), site: site.clone() })?;
        let ([d_in, rank], [rank_b, d_out]) = (lora.a.dims(), lora.b.dims());
        let (found, expected) = ([d_in, d_out], [linear.d_in, linear.d_out]);
        if found != expected || rank != rank_b {
            return Err(ModelError::SiteShape { dir: dir(), site: site.clone(), found, expected });
        }
        let (tensor, matrix, place) = stored_at(checkpoint, linear);
        updates.entry(tensor).or_default().push(Update::new(lora, matrix, place));
    }
    Ok(updates)
}

/// Stored tensor of a weight, and where the weight lies in it.
fn stored_at(checkpoint: &Checkpoint, linear: &LinearSite) -> (String, usize, Place) {
    let (names, alone) = (checkpoint.names, Place::Rows { first: 0 });
    let (expert, part) = match linear.role {
        LinearRole::Expert { expert, part } => (expert, part),
        LinearRole::Router { layer } => {
            return (format!("{}.weight", names.path(layer, names.router)), 0, alone);
        }
        LinearRole::Attention | LinearRole::Dense => {
            return (format!("{}.weight", linear.site), 0, alone);
        }
    };
    let layer = expert.layer;
    let is_fused = is_stacked(&checkpoint.tensors, layer, names)
        || is_quantised(&checkpoint.tensors, layer, names);
    if !is_fused {
        let [gate, up, down] = names.parts;
        let part = match part {
            ExpertPart::Gate => gate,
            ExpertPart::Up => up,
            ExpertPart::Down => down,
        };
        let path = names.path(layer, names.experts);
        return (format!("{path}{}.{part}.weight", expert.expert), 0, alone);
    }
    let [gate_up, down] = names.stacks;
    let stack = if part == ExpertPart::Down { down } else { gate_up };
    let first = if part == ExpertPart::Up { linear.d_out } else { 0 };
    let place = match (names.stack_order, part) {
        (StackOrder::Rows, _) => Place::Rows { first },
        (StackOrder::Interleaved, ExpertPart::Gate) => Place::Columns { first: 0, step: 2 },
        (StackOrder::Interleaved, ExpertPart::Up) => Place::Columns { first: 1, step: 2 },
        (StackOrder::Columns | StackOrder::Interleaved, _) => Place::Columns { first, step: 1 },
    };
    (names.path(layer, stack), expert.expert, place)
}
