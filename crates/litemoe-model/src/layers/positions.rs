use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::{AttentionConfig, RopeConfig, Temperature};

/// What attention needs to know of where tokens stand: the same for every row and every block of a pass.
#[derive(Debug)]
pub(crate) struct Positions {
    rotation: Option<Rotation>,
    /// Hides what comes later, `[1, 1, seq, start + seq]`; with a bias, `[batch or 1, n_heads, seq, start + seq]`. `None` where
    /// every token sees everything.
    full: Option<Tensor<4>>,
    /// Hides what is beyond the window or the chunk too.
    windowed: Option<Tensor<4>>,
    /// What queries of blocks without rotation are multiplied by, `[1, seq, 1, 1]`.
    temperature: Option<Tensor<4>>,
}

#[derive(Debug)]
struct Rotation {
    /// `[1, seq, 1, d_rotated]`
    cos: Tensor<4>,
    /// Negative in the first half: the sign of the rotation. `[1, seq, 1, d_rotated]`
    sin: Tensor<4>,
    interleaved: bool,
}

impl Positions {
    /// Nothing but a bias of the scores.
    pub(crate) fn biased(bias: Tensor<4>) -> Self {
        Self { rotation: None, full: Some(bias), windowed: None, temperature: None }
    }

    /// `seq` positions from `start`.
    fn new(attention: &AttentionConfig, frequencies: &[f32], span: Span, device: &Device) -> Self {
        let reach = match (attention.window, attention.chunk) {
            (Some(window), _) => Some(Reach::Window(window)),
            (None, chunk) => chunk.map(Reach::Chunk),
        };
        let temperature = |temperature| temperatures(temperature, span, device);
        Self {
            rotation: attention
                .rope
                .as_ref()
                .map(|rope| Rotation::new(rope, frequencies, span, device)),
            full: attention.some_see_all().then(|| mask(Reach::All, span, device)).flatten(),
            windowed: reach.and_then(|reach| mask(reach, span, device)),
            temperature: attention.temperature.map(temperature),
        }
    }

    /// What is added to the scores.
    pub(crate) fn mask(&self, windowed: bool) -> Option<&Tensor<4>> {
        if windowed { self.windowed.as_ref() } else { self.full.as_ref() }
    }

    /// What queries of blocks without rotation are multiplied by, `[1, seq, 1, 1]`.
    pub(crate) fn temperature(&self) -> Option<&Tensor<4>> {
        self.temperature.as_ref()
    }

    /// Rotates each pair of dimensions by its position's angle. Pairs that lay side by side come out `d_rotated / 2` apart,
    /// for queries as for keys, which their products do not see.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, seq, heads, d_rotated]`
    pub(crate) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.rotation {
            Some(rotation) => rotation.rotate(x),
            None => x,
        }
    }
}

impl Rotation {
    fn new(rope: &RopeConfig, frequencies: &[f32], span: Span, device: &Device) -> Self {
        let scale = rope.attention_factor();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in span.range() {
            // Rounded to f32 as in the reference, whose angles are f32.
            let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
            let pairs: Vec<(f64, f64)> = angles.map(f64::sin_cos).collect();
            let cosines = pairs.iter().map(|pair| pair.1 as f32 * scale);
            let sines = pairs.iter().map(|pair| pair.0 as f32 * scale);
            cos.extend(cosines.clone().chain(cosines));
            sin.extend(sines.clone().map(|sine| -sine).chain(sines));
        }
        let shape = [1, span.seq, 1, 2 * frequencies.len()];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
            interleaved: rope.interleaved,
        }
    }

    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, seq, heads, width] = x.dims();
        let half = width / 2;
        let x = if self.interleaved {
            let pairs = x.reshape([batch, seq, heads, half, 2]);
            pairs.swap_dims(3, 4).reshape([batch, seq, heads, width])
        } else {
            x
        };
        let (first, second) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
        let swapped = Tensor::cat(vec![second, first], 3);
        x * self.cos.clone() + swapped * self.sin.clone()
    }
}

/// Which positions: `seq` of them from `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) seq: usize,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start..self.start + self.seq
    }
}

/// How far back a token sees.
#[derive(Clone, Copy)]
enum Reach {
    All,
    /// This many tokens, itself included.
    Window(usize),
    /// To the beginning of its chunk of this length.
    Chunk(usize),
}

impl Reach {
    fn hides(self, query: usize, key: usize) -> bool {
        key > query
            || match self {
                Self::All => false,
                Self::Window(window) => query - key >= window,
                Self::Chunk(chunk) => key / chunk != query / chunk,
            }
    }
}

/// Very negative where a token must not look: ahead, or beyond its reach. Finite, so that no difference of two infinities
/// can arise. `None` where nothing is hidden.
fn mask(reach: Reach, span: Span, device: &Device) -> Option<Tensor<4>> {
    let end = span.start + span.seq;
    // The first key is the one that is hidden soonest.
    if span.seq == 1 && !reach.hides(span.start, 0) {
        return None;
    }
    let row = |query| (0..end).map(move |key| if reach.hides(query, key) { f32::MIN } else { 0.0 });
    let values: Vec<f32> = span.range().flat_map(row).collect();
    Some(Tensor::from_data(TensorData::new(values, [1, 1, span.seq, end]), device))
}

fn temperatures(
    Temperature { scale, floor }: Temperature,
    span: Span,
    device: &Device,
) -> Tensor<4> {
    let factor = |position: usize| {
        let steps = ((position as f32 + 1.0) / floor as f32).floor();
        steps.ln_1p() * scale as f32 + 1.0
    };
    let values: Vec<f32> = span.range().map(factor).collect();
    Tensor::from_data(TensorData::new(values, [1, span.seq, 1, 1]), device)
}

/// Makes [`Positions`], remembering the last: all blocks of a pass ask for the same.
#[derive(Debug)]
pub(crate) struct PositionMaker {
    attention: AttentionConfig,
    frequencies: Vec<f32>,
    device: Device,
    last: Mutex<Option<(Span, Arc<Positions>)>>,
}

impl PositionMaker {
    pub(crate) fn new(attention: AttentionConfig, device: &Device) -> Self {
        let frequencies = |rope: &RopeConfig| rope.frequencies(attention.d_rotated());
        let frequencies = attention.rope.as_ref().map_or_else(Vec::new, frequencies);
        Self { attention, frequencies, device: device.clone(), last: Mutex::new(None) }
    }

    /// The positions of a span.
    pub(crate) fn at(&self, span: Span) -> Arc<Positions> {
        // A panic elsewhere cannot leave a half-written pair behind.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, positions)) if *known == span => positions.clone(),
            _ => {
                let made = Positions::new(&self.attention, &self.frequencies, span, &self.device);
                let made = Arc::new(made);
                *last = Some((span, made.clone()));
                made
            }
        }
    }
}
