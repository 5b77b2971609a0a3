use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};

use crate::config::AttentionConfig;

/// What attention needs to know of where tokens stand: the same for every row and every block of a pass.
#[derive(Debug)]
pub(crate) struct Positions {
    /// `[1, seq, 1, d_head]`
    cos: Tensor<4>,
    /// Negative in the first half: the sign of the rotation. `[1, seq, 1, d_head]`
    sin: Tensor<4>,
    /// Hides what comes later. `[1, 1, seq, start + seq]`; `None` where every token sees everything.
    full: Option<Tensor<4>>,
    /// Hides what is beyond the window too.
    windowed: Option<Tensor<4>>,
}

impl Positions {
    /// `seq` positions from `start`.
    fn new(attention: &AttentionConfig, frequencies: &[f32], span: Span, device: &Device) -> Self {
        let scale = attention.rope.attention_factor();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in span.start..span.start + span.seq {
            // Rounded to f32 as in the reference, whose angles are f32.
            let angles = frequencies.iter().map(|frequency| f64::from(position as f32 * frequency));
            let pairs: Vec<(f64, f64)> = angles.map(f64::sin_cos).collect();
            let cosines = pairs.iter().map(|pair| pair.1 as f32 * scale);
            let sines = pairs.iter().map(|pair| pair.0 as f32 * scale);
            cos.extend(cosines.clone().chain(cosines));
            sin.extend(sines.clone().map(|sine| -sine).chain(sines));
        }
        let shape = [1, span.seq, 1, attention.d_head];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
            full: attention.some_see_all().then(|| mask(None, span, device)).flatten(),
            windowed: attention.window.and_then(|window| mask(Some(window), span, device)),
        }
    }

    /// What is added to the scores.
    pub(crate) fn mask(&self, windowed: bool) -> Option<&Tensor<4>> {
        if windowed { self.windowed.as_ref() } else { self.full.as_ref() }
    }

    /// Rotates each pair of dimensions `(i, i + d_head / 2)` by its position's angle.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, seq, heads, d_head]`
    pub(crate) fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
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

/// Very negative where a token must not look: ahead, or beyond its window. Finite, so that no difference of
/// two infinities can arise.
fn mask(window: Option<usize>, Span { start, seq }: Span, device: &Device) -> Option<Tensor<4>> {
    let end = start + seq;
    if seq == 1 && window.is_none_or(|window| end <= window) {
        return None;
    }
    let hidden = |query: usize, key: usize| {
        key > query || window.is_some_and(|window| key + window <= query)
    };
    let values: Vec<f32> = (start..end)
        .flat_map(|query| (0..end).map(move |key| if hidden(query, key) { f32::MIN } else { 0.0 }))
        .collect();
    Some(Tensor::from_data(TensorData::new(values, [1, 1, seq, end]), device))
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
        let frequencies = attention.rope.frequencies(attention.d_head);
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
