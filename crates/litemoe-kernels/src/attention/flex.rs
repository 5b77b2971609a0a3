use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_flex::{Flex, FlexTensor, Layout};
use litemoe_core::CacheDtype;
use rayon::prelude::*;

use super::blocks::HeadShape;
use super::kernel::{BackwardRow, Row, run, run_backward};
use super::key_values::KeyValues;
use super::op::{Inputs, Kernels, Texts};
use super::row::AttentionRow;
use super::span::AttentionSpan;
use crate::matrix::InstructionSet;
use crate::primitive::{AsPrimitive, contiguous, values};

pub(super) fn attention(
    queries: Tensor<2>,
    rows: &[AttentionRow<'_>],
    span: AttentionSpan,
    sinks: Option<Tensor<2>>,
) -> Tensor<2> {
    let sinks = sinks.map(|sinks| contiguous(Flex::primitive(sinks)));
    let rows = rows.iter().map(|row| (row.tokens.clone(), row.keys_values)).collect::<Vec<_>>();
    let queries = Flex::primitive(queries);
    let (output, _) = forward(queries, &rows, span, sinks.as_ref().map(values), false);
    Flex::tensor(output)
}

pub(super) fn extend(to: &mut KeyValues, held: usize, keys: Tensor<2>, new: Tensor<2>) {
    let [keys, new] = [keys, new].map(|tensor| contiguous(Flex::primitive(tensor)));
    to.write(held, values(&keys), values(&new));
}

impl Kernels for Flex {
    fn forward(
        inputs: Inputs<FlexTensor>,
        texts: &Texts,
        log_sums: bool,
    ) -> (FlexTensor, Vec<f32>) {
        let ([_, key_width], [_, value_width]) = (dims(&inputs.keys), dims(&inputs.values));
        let (keys, new) = (contiguous(inputs.keys), contiguous(inputs.values));
        let text = |tokens: &Range<usize>| {
            let n = texts.n_kv_heads;
            let mut keys_values =
                KeyValues::new(n, key_width / n, value_width / n, CacheDtype::F32);
            let (keys, new) = (part(&keys, tokens), part(&new, tokens));
            keys_values.write(0, keys, new);
            keys_values
        };
        let keys_values: Vec<KeyValues> = texts.rows.par_iter().map(text).collect();
        let rows: Vec<_> = texts.rows.iter().cloned().zip(&keys_values).collect();
        forward(inputs.queries, &rows, texts.span, texts.sinks.as_deref(), log_sums)
    }

    fn backward(
        inputs: Inputs<FlexTensor>,
        output: FlexTensor,
        log_sums: &[f32],
        grad: FlexTensor,
        texts: &Texts,
    ) -> [FlexTensor; 3] {
        let Inputs { queries, keys, values } = inputs;
        let [queries, keys, new] = [queries, keys, values].map(contiguous);
        let [output, grad] = [output, grad].map(contiguous);
        let n_heads = log_sums.len() / dims(&queries)[0].max(1);
        let zeros = |like: &FlexTensor| vec![0f32; like.shape().num_elements()];
        let (mut d_queries, mut d_keys, mut d_values) =
            (zeros(&queries), zeros(&keys), zeros(&new));
        let mut parts = [
            Parts::of(&mut d_queries, dims(&queries)),
            Parts::of(&mut d_keys, dims(&keys)),
            Parts::of(&mut d_values, dims(&new)),
        ];
        let row = |tokens: &Range<usize>| {
            let [d_queries, d_keys, d_values] = parts.each_mut().map(|parts| parts.next(tokens));
            BackwardRow {
                queries: part(&queries, tokens),
                keys: part(&keys, tokens),
                values: part(&new, tokens),
                outputs: part(&output, tokens),
                grads: part(&grad, tokens),
                log_sums: &log_sums[tokens.start * n_heads..tokens.end * n_heads],
                d_queries,
                d_keys,
                d_values,
            }
        };
        let rows = texts.rows.iter().map(row).collect();
        run_backward(InstructionSet::in_use(), rows, [n_heads, texts.n_kv_heads], texts.span);
        [
            tensor(d_queries, dims(&queries)),
            tensor(d_keys, dims(&keys)),
            tensor(d_values, dims(&new)),
        ]
    }
}

fn forward(
    queries: FlexTensor,
    rows: &[(Range<usize>, &KeyValues)],
    span: AttentionSpan,
    sinks: Option<&[f32]>,
    log_sums: bool,
) -> (FlexTensor, Vec<f32>) {
    let [n_tokens, width] = dims(&queries);
    let Some((_, kind)) = rows.first() else {
        return (tensor(Vec::new(), [n_tokens, 0]), Vec::new());
    };
    let HeadShape { d_key, d_value, .. } = kind.shape();
    let n_heads = width / d_key;
    let output_width = n_heads * d_value;
    let queries = contiguous(queries);
    let mut output = vec![0f32; n_tokens * output_width];
    let n_log_sums = if log_sums { n_heads } else { 0 };
    let mut log_sums = vec![0f32; n_tokens * n_log_sums];
    let mut outputs = Parts::of(&mut output, [n_tokens, output_width]);
    let mut all_log_sums = Parts::of(&mut log_sums, [n_tokens, n_log_sums]);
    let rows = rows.iter().map(|(tokens, keys_values)| {
        let start = keys_values.len().checked_sub(tokens.len());
        Row {
            queries: part(&queries, tokens),
            start: start.expect("keys and values of the row's tokens"),
            keys_values,
            output: outputs.next(tokens),
            log_sums: all_log_sums.next(tokens),
        }
    });
    run(InstructionSet::in_use(), rows.collect(), n_heads, span, sinks);
    (tensor(output, [n_tokens, output_width]), log_sums)
}

/// Rows of a matrix, handed out in order.
struct Parts<'a> {
    rest: &'a mut [f32],
    done: usize,
    width: usize,
}

impl<'a> Parts<'a> {
    fn of(all: &'a mut [f32], [_, width]: [usize; 2]) -> Self {
        Self { rest: all, done: 0, width }
    }

    /// # Panics
    /// When rows overlap or are not in order.
    fn next(&mut self, rows: &Range<usize>) -> &'a mut [f32] {
        let skipped = rows.start.checked_sub(self.done).expect("rows in order");
        let rest = std::mem::take(&mut self.rest);
        let (_, from) = rest.split_at_mut(skipped * self.width);
        let (part, rest) = from.split_at_mut(rows.len() * self.width);
        (self.rest, self.done) = (rest, rows.end);
        part
    }
}

fn dims(tensor: &FlexTensor) -> [usize; 2] {
    tensor.shape().dims()
}

/// Rows of a contiguous matrix.
fn part<'a>(matrix: &'a FlexTensor, rows: &Range<usize>) -> &'a [f32] {
    let [_, width] = dims(matrix);
    &values(matrix)[rows.start * width..rows.end * width]
}

fn tensor(values: Vec<f32>, dims: [usize; 2]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::new(dims)), DType::F32)
}
