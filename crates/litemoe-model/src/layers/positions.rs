use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor, TensorData};
use litemoe_core::{Packing, Stack};
use litemoe_kernels::{AttentionSpan, Rotation};

use crate::config::{AttentionConfig, RopeConfig, Temperature};
use crate::layers::attention_mask::{Masks, mask, spans};
use crate::layers::relative_position_bias::RelativeBias;
use crate::layers::rope::RopeTable;

/// Positions of a pass, as attention needs them; shared by all blocks.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Maker of the model that they belong to.
    maker: Arc<PositionMaker>,
    rotation: Option<RopeTable>,
    /// Attention temperature of queries in NoPE blocks, `[1, columns, 1, 1]`.
    temperature: Option<Tensor<4>>,
    spans: Vec<Range<usize>>,
    /// One for all rows when they start at 0, else one per row; made on first use.
    masks: OnceLock<Vec<Masks>>,
}

/// Computes the positions of a model's passes.
#[derive(Debug)]
pub(crate) struct PositionMaker {
    attention: AttentionConfig,
    frequencies: Vec<f32>,
    /// Relative position biases of encoder and decoder, instead of RoPE.
    relative: Option<[RelativeBias; 2]>,
    device: Device,
}

impl PositionMaker {
    pub(crate) fn new(
        attention: AttentionConfig,
        relative: Option<[RelativeBias; 2]>,
        device: &Device,
    ) -> Arc<Self> {
        let frequencies = |rope: &RopeConfig| rope.frequencies(attention.d_rotated());
        let frequencies = attention.rope.as_ref().map_or_else(Vec::new, frequencies);
        Arc::new(Self { attention, frequencies, relative, device: device.clone() })
    }

    /// Positions of a pass, computed once for all its blocks.
    pub(crate) fn of(self: &Arc<Self>, stack: Stack, packing: &Packing) -> Arc<Positions> {
        let kept = packing.derived(|| self.make(stack, packing));
        // Another model may have run over the same rows.
        if Arc::ptr_eq(&kept.maker, self) { kept } else { Arc::new(self.make(stack, packing)) }
    }

    fn make(self: &Arc<Self>, stack: Stack, packing: &Packing) -> Positions {
        let maker = self.clone();
        if let Some([encoder, decoder]) = &self.relative {
            let bias = if stack == Stack::Encoder { encoder } else { decoder };
            let (spans, masks) = (Vec::new(), OnceLock::from(bias.masks(packing)));
            return Positions { maker, rotation: None, temperature: None, spans, masks };
        }
        let spans = spans(packing);
        let positions: Vec<usize> = spans.iter().cloned().flatten().collect();
        let rope = self.attention.rope.as_ref();
        let temperature =
            |temperature| temperatures(temperature, positions.as_slice(), &self.device);
        Positions {
            maker,
            rotation: rope
                .map(|rope| RopeTable::new(rope, &self.frequencies, &positions, &self.device)),
            temperature: self.attention.temperature.map(temperature),
            spans,
            masks: OnceLock::new(),
        }
    }

    fn masks(&self, span: &Range<usize>) -> Masks {
        let some_see_all = self.attention.some_see_all();
        Masks {
            full: some_see_all.then(|| mask(AttentionSpan::All, span, &self.device)).flatten(),
            windowed: self.window().and_then(|window| mask(window, span, &self.device)),
        }
    }

    /// The model's sliding window or chunk.
    fn window(&self) -> Option<AttentionSpan> {
        match (self.attention.window, self.attention.chunk) {
            (Some(window), _) => Some(AttentionSpan::Window(window)),
            (None, chunk) => chunk.map(AttentionSpan::Chunk),
        }
    }
}

impl Positions {
    /// Attention mask of a row, or of all rows when they start at 0.
    pub(crate) fn mask(&self, row: usize, windowed: bool) -> Option<&Tensor<4>> {
        let make = || self.spans.iter().map(|span| self.maker.masks(span)).collect();
        let masks = &self.masks.get_or_init(make)[row];
        if windowed { masks.windowed.as_ref() } else { masks.full.as_ref() }
    }

    /// How far back tokens attend, if nothing else limits or biases their attention.
    pub(crate) fn span(&self, windowed: bool) -> Option<AttentionSpan> {
        match &self.maker.relative {
            Some(_) => None,
            None if windowed => Some(self.maker.window().unwrap_or(AttentionSpan::All)),
            None => Some(AttentionSpan::All),
        }
    }

    /// Attention temperature of queries in NoPE blocks, `[1, columns, 1, 1]`.
    pub(crate) fn temperature(&self) -> Option<&Tensor<4>> {
        self.temperature.as_ref()
    }

    /// RoPE, for a kernel that applies it as [`Self::rotate`] does.
    pub(crate) fn rotation(&self) -> Option<Rotation<'_>> {
        self.rotation.as_ref().map(RopeTable::rotation)
    }

    /// Applies RoPE. Interleaved pairs come out half-split, `d_rotated / 2` apart, in queries and keys alike, which
    /// leaves their products unchanged.
    ///
    /// # Shapes
    /// - `x` and output: `[rows, columns, heads, d_rotated]`
    pub(crate) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.rotation {
            Some(rotation) => rotation.rotate(x),
            None => x,
        }
    }
}

fn temperatures(
    Temperature { scale, floor }: Temperature,
    positions: &[usize],
    device: &Device,
) -> Tensor<4> {
    let factor = |&position: &usize| {
        let steps = ((position as f32 + 1.0) / floor as f32).floor();
        steps.ln_1p() * scale as f32 + 1.0
    };
    let values: Vec<f32> = positions.iter().map(factor).collect();
    Tensor::from_data(TensorData::new(values, [1, positions.len(), 1, 1]), device)
}
