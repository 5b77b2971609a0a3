//! Attention against plain tensor operations, and the same bits however rows are batched, cut or scheduled.

use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use litemoe_core::CacheDtype;
use litemoe_kernels::{
    AttentionRow, AttentionSpan, KeyValues, attention, fuses_attention, self_attention,
};
use proptest::prelude::*;

use crate::case::{constant, floats, matrix, tracked};

/// Texts with queries for their last tokens.
#[derive(Debug, Clone)]
struct Case {
    dtype: CacheDtype,
    n_kv_heads: usize,
    /// Query heads per key–value head.
    group: usize,
    d_key: usize,
    d_value: usize,
    span: AttentionSpan,
    sinks: Option<TensorData>,
    texts: Vec<Text>,
}

#[derive(Debug, Clone)]
struct Text {
    /// Tokens before the first query.
    start: usize,
    queries: TensorData,
    keys: TensorData,
    values: TensorData,
}

impl Text {
    fn len(&self) -> usize {
        self.queries.shape()[0]
    }
}

fn span() -> impl Strategy<Value = AttentionSpan> {
    prop_oneof![
        Just(AttentionSpan::All),
        (1usize..150).prop_map(AttentionSpan::Window),
        (1usize..150).prop_map(AttentionSpan::Chunk),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let heads = (1usize..4, 1usize..6, 1usize..36, 1usize..36);
    let lens = prop::collection::vec((0usize..150, 1usize..90), 1..4);
    let dtype = prop::sample::select(CacheDtype::ALL);
    (dtype, heads, lens).prop_flat_map(|(dtype, (n_kv_heads, group, d_key, d_value), lens)| {
        let text = |(start, len): (usize, usize)| {
            let (n, n_heads) = (start + len, n_kv_heads * group);
            let queries = matrix(len, n_heads * d_key);
            (queries, matrix(n, n_kv_heads * d_key), matrix(n, n_kv_heads * d_value))
                .prop_map(move |(queries, keys, values)| Text { start, queries, keys, values })
        };
        let texts: Vec<_> = lens.into_iter().map(text).collect();
        let sinks = prop::option::of(matrix(1, n_kv_heads * group));
        (texts, sinks, span()).prop_map(move |(texts, sinks, span)| Case {
            dtype,
            n_kv_heads,
            group,
            d_key,
            d_value,
            span,
            sinks,
            texts,
        })
    })
}

impl Case {
    fn queries(&self, text: &Text) -> Tensor<2> {
        constant(&text.queries) / (self.d_key as f64).sqrt()
    }

    /// The text's keys and values, written in two pieces.
    fn keys_values(&self, text: &Text, cut: usize) -> KeyValues {
        let mut keys_values = KeyValues::new(self.n_kv_heads, self.d_key, self.d_value, self.dtype);
        let mut extend = |held: usize, end: usize| {
            let of = |data| constant(data).narrow(0, held, end - held);
            keys_values.extend(held, of(&text.keys), of(&text.values));
        };
        if cut > 0 {
            extend(0, cut);
        }
        extend(cut, text.start + text.len());
        keys_values
    }

    /// Queries `tokens` of a text, as a batch of one row.
    fn alone(&self, text: &Text, tokens: Range<usize>) -> Vec<f32> {
        let mut keys_values = self.keys_values(text, text.start);
        let end = text.start + tokens.end;
        let of = |data| constant(data).narrow(0, end - 1, 1);
        keys_values.extend(end - 1, of(&text.keys), of(&text.values));
        let queries = self.queries(text).narrow(0, tokens.start, tokens.len());
        let rows = [AttentionRow { tokens: 0..tokens.len(), keys_values: &keys_values }];
        floats(attention(queries, &rows, self.span, self.sinks.as_ref().map(constant)))
    }

    /// All texts in one batch, with a token of no row between them.
    fn together(&self) -> Vec<Vec<f32>> {
        let keys_values: Vec<_> =
            self.texts.iter().map(|text| self.keys_values(text, text.start)).collect();
        let (mut queries, mut rows, mut end) = (Vec::new(), Vec::new(), 0);
        for (text, keys_values) in self.texts.iter().zip(&keys_values) {
            let first = self.queries(text).narrow(0, 0, 1);
            queries.extend([self.queries(text), first]);
            rows.push(AttentionRow { tokens: end..end + text.len(), keys_values });
            end += text.len() + 1;
        }
        let sinks = self.sinks.as_ref().map(constant);
        let output = attention(Tensor::cat(queries, 0), &rows, self.span, sinks);
        let row = |row: &AttentionRow<'_>| {
            let (tokens, output) = (row.tokens.clone(), output.clone());
            assert!(floats(output.clone().narrow(0, tokens.end, 1)).iter().all(|&it| it == 0.));
            floats(output.narrow(0, tokens.start, tokens.len()))
        };
        rows.iter().map(row).collect()
    }

    /// What the cache holds of keys or values.
    fn held(&self, data: &TensorData) -> Tensor<2> {
        match self.dtype {
            CacheDtype::F32 => constant(data),
            CacheDtype::Bf16 => constant(data).cast(DType::BF16).cast(DType::F32),
        }
    }

    /// By plain tensor operations, from queries, keys and values.
    fn reference(&self, start: usize, [queries, keys, values]: [Tensor<2>; 3]) -> Tensor<2> {
        let n = queries.dims()[0];
        let (seen, device) = (start + n, queries.device());
        let heads = |x: Tensor<2>, width| {
            let [n, all] = x.dims();
            x.reshape([n, all / width, width]).swap_dims(0, 1)
        };
        let repeated = |x: Tensor<3>| {
            let [heads, n, width] = x.dims();
            let x: Tensor<4> = x.unsqueeze_dim(1);
            x.expand([heads, self.group, n, width]).reshape([heads * self.group, n, width])
        };
        let q = heads(queries, self.d_key);
        let k = repeated(heads(keys, self.d_key));
        let v = repeated(heads(values, self.d_value));
        let mask = |query: usize| {
            let keys = self.span.keys(start + query);
            (0..seen).map(move |key| if keys.contains(&key) { 0. } else { f32::MIN })
        };
        let mask: Vec<f32> = (0..n).flat_map(mask).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [1, n, seen]), &device);
        let sinks: Tensor<2> = match &self.sinks {
            Some(sinks) => Tensor::from_data(sinks.clone(), &device),
            None => Tensor::full([1, self.n_kv_heads * self.group], -1e30, &device),
        };
        let sinks = sinks.reshape([-1, 1, 1]).expand([q.dims()[0], n, 1]);
        let scores = Tensor::cat(vec![q.matmul(k.swap_dims(1, 2)) + mask, sinks], 2);
        let mixed = activation::softmax(scores, 2).narrow(2, 0, seen).matmul(v);
        let width = self.n_kv_heads * self.group * self.d_value;
        mixed.swap_dims(0, 1).reshape([n, width])
    }
}

proptest! {
    /// In units of the largest value, of which outputs are averages.
    #[test]
    fn equals_plain_operations(case in case()) {
        for (text, found) in case.texts.iter().zip(case.together()) {
            let unit = floats(constant(&text.values).abs()).into_iter().fold(0., f32::max);
            let inputs = [case.queries(text), case.held(&text.keys), case.held(&text.values)];
            let expected = floats(case.reference(text.start, inputs));
            for (found, expected) in found.iter().zip(expected) {
                prop_assert!((found - expected).abs() <= 2e-6 * unit, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn a_row_in_a_batch_is_the_row_alone_and_the_row_in_pieces(case in case(), cut in 0usize..90) {
        for (text, found) in case.texts.iter().zip(case.together()) {
            prop_assert_eq!(&found, &case.alone(text, 0..text.len()));
            let cut = cut % text.len();
            if cut > 0 {
                let parts = [case.alone(text, 0..cut), case.alone(text, cut..text.len())];
                prop_assert_eq!(found, parts.concat());
            }
        }
    }

    /// Texts that begin at position 0, in a batch with a token of no text between them.
    #[test]
    fn self_attention_has_the_outputs_and_gradients_of_plain_operations(case in case(), weights in matrix(1, 97)) {
        let n_heads = case.n_kv_heads * case.group;
        let n = |text: &Text| text.len();
        let padded = |of: &dyn Fn(&Text) -> Tensor<2>| {
            let part = |text| {
                let of = of(text).narrow(0, 0, n(text));
                Tensor::cat(vec![of.clone(), of.narrow(0, 0, 1)], 0)
            };
            tracked(&Tensor::cat(case.texts.iter().map(part).collect(), 0).into_data())
        };
        let inputs = [
            padded(&|text| case.queries(text)),
            padded(&|text| constant(&text.keys)),
            padded(&|text| constant(&text.values)),
        ];
        let tokens = case.texts.iter().scan(0, |end, text| {
            let start = *end;
            *end += n(text) + 1;
            Some(start..start + n(text))
        });
        let tokens: Vec<_> = tokens.collect();
        let n_all = inputs[0].dims()[0];
        let values = floats(constant(&weights)).into_iter().cycle().take(n_all * n_heads * case.d_value);
        let weights = TensorData::new(values.collect(), [n_all, n_heads * case.d_value]);
        let gradients = |output: Tensor<2>, weights: Tensor<2>| {
            let gradients = (output * weights).sum().backward();
            inputs.each_ref().map(|input| floats(input.grad(&gradients).expect("a gradient")))
        };
        let sinks = case.sinks.as_ref().map(constant);
        let output = self_attention(inputs.clone(), tokens.clone(), case.n_kv_heads, case.span, sinks);
        let plain = tokens.iter().map(|tokens| {
            let of = |input: &Tensor<2>| input.clone().narrow(0, tokens.start, tokens.len());
            case.reference(0, inputs.each_ref().map(of))
        });
        let plain = Tensor::cat(plain.collect(), 0);
        let kept = tokens.iter().map(|tokens| constant(&weights).narrow(0, tokens.start, tokens.len()));
        let kept = Tensor::cat(kept.collect(), 0);
        let found = gradients(output, constant(&weights));
        let expected = gradients(plain, kept);
        // Queries that attend to one key have no gradient but for rounding.
        let unit = expected.iter().flatten().fold(0f32, |unit, it| unit.max(it.abs()));
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            prop_assert!((found - expected).abs() <= 2e-5 * unit, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing(case in case()) {
        let with = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| case.together())
        };
        let [one, two, three] = [1, 2, 3].map(with);
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(one, three);
    }
}

fn numbers(rows: usize, columns: usize, seed: usize) -> TensorData {
    let number = |at: usize| ((at + seed) * 37 % 1001) as f32 / 500. - 1.;
    TensorData::new((0..rows * columns).map(number).collect(), [rows, columns])
}

/// Enough multiplications for parallel tiles.
#[test]
fn long_rows_are_the_same_on_any_number_of_threads() {
    let text = |start, seed| Text {
        start,
        queries: numbers(200, 6 * 40, seed),
        keys: numbers(start + 200, 2 * 40, seed + 1),
        values: numbers(start + 200, 2 * 24, seed + 2),
    };
    let span = AttentionSpan::Window(170);
    for &dtype in CacheDtype::ALL {
        let (sinks, texts) = (None, vec![text(300, 3), text(0, 9)]);
        let case =
            Case { dtype, n_kv_heads: 2, group: 3, d_key: 40, d_value: 24, span, sinks, texts };
        let with = |n_threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            pool.install(|| case.together())
        };
        let one = with(1);
        assert_eq!(one, with(2));
        assert_eq!(one, with(3));
        assert_eq!(one[1], case.alone(&case.texts[1], 0..200));
    }
}

/// A text that continues otherwise leaves the keys and values of its clone as they were.
#[test]
fn clones_continue_apart() {
    let text = Text {
        start: 69,
        queries: numbers(1, 8, 1),
        keys: numbers(70, 8, 2),
        values: numbers(70, 8, 3),
    };
    let sinks = None;
    let (span, texts) = (AttentionSpan::All, vec![text.clone()]);
    let dtype = CacheDtype::Bf16;
    let case = Case { dtype, n_kv_heads: 1, group: 1, d_key: 8, d_value: 8, span, sinks, texts };
    let keys_values = case.keys_values(&text, 69);
    let output = |keys_values: &KeyValues| {
        let rows = [AttentionRow { tokens: 0..1, keys_values }];
        floats(attention(case.queries(&text), &rows, case.span, None))
    };
    let expected = output(&keys_values);
    let mut other = keys_values.clone();
    for held in [66, 3] {
        other.extend(
            held,
            constant(&numbers(70 - held, 8, 5)),
            constant(&numbers(70 - held, 8, 6)),
        );
        assert_eq!(other.len(), 70);
        assert_ne!(output(&other), expected);
    }
    assert_eq!(output(&keys_values), expected);
    other.extend(0, constant(&text.keys), constant(&text.values));
    assert_eq!(output(&other), expected);
}

#[test]
fn what_was_truncated_has_no_effect() {
    let text = Text {
        start: 9,
        queries: numbers(1, 8, 1),
        keys: numbers(10, 8, 2),
        values: numbers(10, 8, 3),
    };
    let sinks = None;
    let (span, texts) = (AttentionSpan::All, vec![text.clone()]);
    let dtype = CacheDtype::Bf16;
    let case = Case { dtype, n_kv_heads: 1, group: 1, d_key: 8, d_value: 8, span, sinks, texts };
    let mut keys_values = KeyValues::new(1, 8, 8, dtype);
    let nan = Tensor::<2>::full([40, 8], f32::NAN, &Device::flex());
    keys_values.extend(0, nan.clone(), nan);
    keys_values.extend(0, constant(&text.keys), constant(&text.values));
    let rows = [AttentionRow { tokens: 0..1, keys_values: &keys_values }];
    let found = floats(attention(case.queries(&text), &rows, case.span, None));
    assert_eq!(found, case.alone(&text, 0..1));
}

#[test]
fn nan_stays_nan() {
    // The payload of the second is in the bits that bf16 lacks.
    for (&dtype, bits) in
        CacheDtype::ALL.iter().flat_map(|it| [(it, 0x7fc0_0000), (it, 0x7f80_0001)])
    {
        let mut keys_values = KeyValues::new(1, 8, 8, dtype);
        let mut keys = Tensor::<2>::ones([2, 8], &Device::flex());
        keys = keys.slice_fill([0..1, 3..4], f32::from_bits(bits));
        keys_values.extend(0, keys, Tensor::ones([2, 8], &Device::flex()));
        let rows = [AttentionRow { tokens: 0..1, keys_values: &keys_values }];
        let queries = Tensor::<2>::ones([1, 8], &Device::flex());
        let output = attention(queries, &rows, AttentionSpan::All, None);
        assert!(output.is_nan().all().into_scalar::<bool>(), "{dtype}");
    }
}

#[test]
fn other_dtypes_have_no_kernel() {
    assert!(fuses_attention(&constant(&numbers(1, 4, 0))));
    assert!(fuses_attention(&tracked(&numbers(1, 4, 0))));
    assert!(!fuses_attention(&Tensor::ones([1, 4], (&Device::flex(), DType::F64))));
}
