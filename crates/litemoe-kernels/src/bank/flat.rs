use burn::tensor::Tensor;

use litemoe_core::Lora;

use super::adapters::ExpertAdapters;

/// Layout of all LoRA matrices in one flat tensor `[1, n]`: a custom operation has a fixed number of inputs, but the
/// number of LoRAs varies.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    updates: Vec<[Option<Place>; 3]>,
}

/// Position of one LoRA: A, then B, both row-major.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: usize,
    d_in: usize,
    rank: usize,
    d_out: usize,
    scale: f32,
}

impl Layout {
    pub(super) fn of(updates: &[ExpertAdapters]) -> Self {
        let mut end = 0;
        let mut place = |part: &Lora| {
            let ([d_in, rank], [_, d_out]) = (part.a.dims(), part.b.dims());
            let offset = end;
            end += (d_in + d_out) * rank;
            Place { offset, d_in, rank, d_out, scale: part.scale }
        };
        let mut places = |ExpertAdapters { gate, up, down }: &ExpertAdapters| {
            [gate, up, down].map(|part| part.as_ref().map(|adapter| place(adapter.lora())))
        };
        Self { updates: updates.iter().map(&mut places).collect() }
    }

    /// The LoRAs as views of the flat tensor `[1, n]`.
    pub(super) fn updates(&self, row: &Tensor<2>) -> Vec<ExpertAdapters> {
        let part = |place: Place| place.part(row);
        let update = |places: &[Option<Place>; 3]| {
            let [gate, up, down] = places.map(|place| place.map(|place| part(place).into()));
            ExpertAdapters { gate, up, down }
        };
        self.updates.iter().map(update).collect()
    }
}

impl Place {
    fn part(self, row: &Tensor<2>) -> Lora {
        let Self { offset, d_in, rank, d_out, scale } = self;
        let matrix = |offset, shape: [usize; 2]| {
            row.clone().narrow(1, offset, shape[0] * shape[1]).reshape(shape)
        };
        let a = matrix(offset, [d_in, rank]);
        Lora { a, b: matrix(offset + d_in * rank, [rank, d_out]), scale }
    }
}

/// Flattens and concatenates matrices into `[1, n]`.
pub(super) fn row(matrices: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    Tensor::cat(matrices.map(|matrix| matrix.reshape([1, -1])).collect(), 1)
}
