use half::{bf16, f16};
use litemoe_core::WeightDtype;

use super::instruction_set::InstructionSet;
use super::layout::{Line, Matrix, PackedFormat, Panels};
use crate::stored_rows::Values;
use crate::test_numbers::numbers;
use crate::{BLOCK_VALUES, RangeError, StoredRows, block_bytes, dequantise, weight_bytes};

const FORMATS: [PackedFormat; 3] = [PackedFormat::Bf16, PackedFormat::Q8, PackedFormat::Q4];
/// `[d_out, d_in]`, whole and cut panels and blocks.
const SHAPES: [[usize; 2]; 6] = [[1, 1], [16, 32], [5, 7], [40, 100], [65, 256], [200, 33]];
const ROWS: [usize; 9] = [1, 2, 3, 8, 12, 16, 22, 23, 37];

fn packed(format: PackedFormat, stored: &[f32], shape: [usize; 2]) -> Matrix {
    let set = InstructionSet::available().last().expect("the portable one");
    Matrix::pack(set, format, &Values::new(stored, shape)).expect("values that the format can hold")
}

/// `x·Wᵀ` in f64.
fn exact(weights: &[f32], x: &[f32], [d_out, d_in]: [usize; 2]) -> Vec<f64> {
    let product = |x: &[f32], w: &[f32]| {
        x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum::<f64>()
    };
    let row = |x| weights.chunks(d_in).map(move |w| product(x, w));
    let found: Vec<f64> = x.chunks(d_in).flat_map(row).collect();
    assert_eq!(found.len(), x.len() / d_in * d_out);
    found
}

/// Largest difference, in units of the largest magnitude of `reference`.
fn error(found: &[f32], reference: &[f64]) -> f64 {
    assert_eq!(found.len(), reference.len());
    let largest = reference.iter().fold(0f64, |largest, it| largest.max(it.abs()));
    let difference = |(&found, reference): (&f32, &f64)| (f64::from(found) - reference).abs();
    found.iter().zip(reference).map(difference).fold(0., f64::max) / largest
}

fn each(mut check: impl FnMut(PackedFormat, [usize; 2], usize, InstructionSet)) {
    for format in FORMATS {
        for shape in SHAPES {
            for n in ROWS {
                InstructionSet::available().for_each(|set| check(format, shape, n, set));
            }
        }
    }
}

#[test]
fn products_equal_those_with_the_dequantised_weight() {
    each(|format, shape @ [d_out, d_in], n, set| {
        let matrix = packed(format, &numbers(d_out * d_in, 3), shape);
        let x = numbers(n * d_in, 5);
        let reference = exact(&matrix.rows(0..d_out), &x, shape);
        let found = error(&matrix.product(set, &x), &reference);
        let bound = if format == PackedFormat::Bf16 { 4e-3 } else { 1e-2 };
        assert!(found <= bound, "{format:?} {shape:?} × {n} rows, {set}: {found:.1e}");
    });
}

#[test]
fn a_row_depends_neither_on_the_batch_nor_on_the_threads() {
    each(|format, shape @ [d_out, d_in], n, set| {
        let matrix = packed(format, &numbers(d_out * d_in, 3), shape);
        let x = numbers(n * d_in, 5);
        let alone: Vec<f32> = x.chunks(d_in).flat_map(|x| matrix.product(set, x)).collect();
        for threads in 1..=3 {
            let pool =
                rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            let together = pool.install(|| matrix.product(set, &x));
            assert_eq!(
                together, alone,
                "{format:?} {shape:?} × {n} rows, {set}, {threads} threads"
            );
        }
    });
}

#[test]
fn gradients_equal_those_with_the_dequantised_weight() {
    each(|format, shape @ [d_out, d_in], n, set| {
        let matrix = packed(format, &numbers(d_out * d_in, 3), shape);
        let grad = numbers(n * d_out, 5);
        let rows = matrix.rows(0..d_out);
        let transposed: Vec<f32> =
            (0..d_in).flat_map(|input| rows.iter().skip(input).step_by(d_in)).copied().collect();
        let reference = exact(&transposed, &grad, [d_in, d_out]);
        let found = matrix.input_gradient(set, &grad);
        let difference = error(&found, &reference);
        let at = format!("{format:?} {shape:?} × {n} rows, {set}");
        assert!(difference <= 6e-3, "{at}: {difference:.1e}");
        let alone = grad.chunks(d_out).flat_map(|grad| matrix.input_gradient(set, grad));
        assert!(alone.eq(found), "{at}: a row depends on the batch");
    });
}

#[test]
fn integer_products_have_the_same_bits_with_every_instruction_set() {
    each(|format, shape @ [d_out, d_in], n, set| {
        if format == PackedFormat::Bf16 {
            return;
        }
        let matrix = packed(format, &numbers(d_out * d_in, 3), shape);
        let x = numbers(n * d_in, 5);
        let found = matrix.product(set, &x);
        assert_eq!(
            found,
            matrix.product(InstructionSet::Portable, &x),
            "{format:?} {shape:?} {set}"
        );
    });
}

/// Largest difference of a row's values, in units of the largest magnitude in its block.
fn rounding(format: PackedFormat) -> f32 {
    let weights = numbers(96 * 320, 11);
    let rows = packed(format, &weights, [96, 320]).rows(0..96);
    let blocks = weights.chunks(32).zip(rows.chunks(32));
    blocks.fold(0f32, |most, (stored, rounded)| {
        let largest = stored.iter().fold(0f32, |largest, it| largest.max(it.abs()));
        let differences = stored.iter().zip(rounded).map(|(a, b)| (a - b).abs());
        most.max(differences.fold(0f32, f32::max) / largest)
    })
}

/// Rows in little-endian bf16.
struct Halves<'a>(&'a [bf16], [usize; 2]);

impl StoredRows for Halves<'_> {
    fn shape(&self) -> [usize; 2] {
        self.1
    }

    fn read(&self, _: usize, _: &mut [f32]) {
        unreachable!("rows of bf16 are read as they are stored");
    }

    fn bf16(&self, row: usize) -> Option<&[u8]> {
        let [_, d_in] = self.1;
        Some(bytemuck::cast_slice(&self.0[row * d_in..][..d_in]))
    }
}

/// As [`Halves`], but some rows are given in f32 alone: those of another matrix that is stacked on the first.
struct Mixed<'a>(Halves<'a>);

impl StoredRows for Mixed<'_> {
    fn shape(&self) -> [usize; 2] {
        self.0.1
    }

    fn read(&self, row: usize, values: &mut [f32]) {
        let Halves(halves, [_, d_in]) = self.0;
        let halves = &halves[row * d_in..][..d_in];
        values.iter_mut().zip(halves).for_each(|(value, half)| *value = half.to_f32());
    }

    fn bf16(&self, row: usize) -> Option<&[u8]> {
        if row < 20 { self.0.bf16(row) } else { None }
    }
}

#[test]
fn panels_with_rows_of_both_kinds_are_those_of_one_kind() {
    let shape @ [d_out, d_in] = [40, 70];
    let halves = numbers(d_out * d_in, 3).into_iter().map(bf16::from_f32).collect::<Vec<_>>();
    for format in FORMATS {
        for set in InstructionSet::available() {
            let pack = |rows: &dyn StoredRows| bits(&Matrix::pack(set, format, rows).unwrap());
            let mixed = pack(&Mixed(Halves(&halves, shape)));
            assert_eq!(mixed, pack(&Halves(&halves, shape)), "{format:?} {set}");
        }
    }
}

/// Bits of all lines and scales.
fn bits(matrix: &Matrix) -> (Vec<u32>, Vec<f16>) {
    let lanes = |lines: &[Line]| lines.iter().flat_map(Line::lanes).collect();
    match &matrix.panels {
        Panels::Bf16(lines) => (lanes(lines), Vec::new()),
        Panels::Quantised(it) => (lanes(&it.lines), it.scales.as_flattened().to_vec()),
    }
}

/// Whatever the values: usual ones, some with zeros, those of all magnitudes, subnormal ones.
#[test]
fn weights_are_packed_to_the_same_bits_by_every_instruction_set() {
    let kinds: [fn(usize, f32) -> f32; 5] = [
        |_, it| it,
        |at, it| if at % 7 == 0 { it.powi(9) } else { it },
        |at, it| if at % 5 == 0 { it * 1e5 } else { 0. },
        |_, it| it * 1e-38,
        |_, it| it * 1e-43,
    ];
    for shape @ [d_out, d_in] in SHAPES {
        for (kind, value) in kinds.into_iter().enumerate() {
            let stored = numbers(d_out * d_in, 13 + kind as u64);
            let stored: Vec<f32> = (0..).zip(stored).map(|(at, it)| value(at, it)).collect();
            let halves: Vec<bf16> = stored.iter().map(|&it| bf16::from_f32(it)).collect();
            let widened: Vec<f32> = halves.iter().map(|it| it.to_f32()).collect();
            for format in FORMATS {
                let packed = |set, stored: &dyn StoredRows| {
                    bits(&Matrix::pack(set, format, stored).expect("values that it can hold"))
                };
                let portable =
                    |values: &[f32]| packed(InstructionSet::Portable, &Values::new(values, shape));
                let (expected, expected_of_halves) = (portable(&stored), portable(&widened));
                for set in InstructionSet::available() {
                    let at = format!("{format:?} {shape:?} {set}, kind {kind}");
                    assert_eq!(packed(set, &Values::new(&stored, shape)), expected, "{at}");
                    assert_eq!(packed(set, &Halves(&halves, shape)), expected_of_halves, "{at}");
                }
            }
        }
    }
}

/// Rows in blocks of a quantised format.
struct Blocks<'a> {
    bytes: &'a [u8],
    dtype: WeightDtype,
    shape: [usize; 2],
}

impl StoredRows for Blocks<'_> {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn read(&self, row: usize, values: &mut [f32]) {
        let bytes = self.blocks(row, self.dtype).expect("its own format");
        dequantise(self.dtype, bytes, values);
    }

    fn blocks(&self, row: usize, dtype: WeightDtype) -> Option<&[u8]> {
        let width = self.bytes.len() / self.shape[0];
        (dtype == self.dtype).then(|| &self.bytes[row * width..][..width])
    }
}

#[test]
fn blocks_of_a_packed_weight_are_packed_to_the_same_bits() {
    for shape @ [d_out, d_in] in SHAPES {
        for format in [PackedFormat::Q8, PackedFormat::Q4] {
            let matrix = packed(format, &numbers(d_out * d_in, 3), shape);
            let (bytes, dtype) = (matrix.blocks().expect("quantised"), format.dtype());
            assert_eq!(
                Some(bytes.len()),
                block_bytes(dtype).map(|bytes| d_out * d_in.div_ceil(BLOCK_VALUES) * bytes)
            );
            let rows = Blocks { bytes: &bytes, dtype, shape };
            for set in InstructionSet::available() {
                let again = Matrix::pack(set, format, &rows).expect("values that it can hold");
                assert_eq!(bits(&again), bits(&matrix), "{format:?} {shape:?} {set}");
            }
            let mut row = vec![0.; d_in];
            for output in 0..d_out {
                rows.read(output, &mut row);
                assert_eq!(row, matrix.rows(output..output + 1), "{format:?} {shape:?}");
            }
            let other =
                if format == PackedFormat::Q8 { PackedFormat::Q4 } else { PackedFormat::Q8 };
            let values = matrix.rows(0..d_out);
            let values = Values::new(&values, shape);
            let set = InstructionSet::Portable;
            let [found, expected] =
                [&rows as &dyn StoredRows, &values].map(|rows| Matrix::pack(set, other, rows));
            assert_eq!(bits(&found.unwrap()), bits(&expected.unwrap()), "{format:?} {shape:?}");
        }
    }
}

#[test]
fn blocks_are_those_of_ggml() {
    let values: Vec<f32> = (0..32).map(|at| at as f32 - 16.).collect();
    let mut found = [0.; 32];
    let bytes = [&[0x00, 0x3c][..], &(-16..16).map(|at: i8| at as u8).collect::<Vec<_>>()].concat();
    dequantise(WeightDtype::Q8, &bytes, &mut found);
    assert_eq!(found, *values);
    // Scale 2, byte i: 15 − i in the high half, i in the low one.
    let bytes = [&[0x00, 0x40][..], &(0..16).map(|at| (15 - at) << 4 | at).collect::<Vec<u8>>()];
    dequantise(WeightDtype::Q4, &bytes.concat(), &mut found);
    let low = (0..16).map(|at| 2. * (at as f32 - 8.));
    let high = (0..16).map(|at| 2. * (7. - at as f32));
    assert_eq!(found.to_vec(), low.chain(high).collect::<Vec<_>>());
}

#[test]
fn blocks_with_a_scale_that_is_not_finite_are_refused() {
    let shape = [40, 96];
    for format in [PackedFormat::Q8, PackedFormat::Q4] {
        let matrix = packed(format, &numbers(40 * 96, 3), shape);
        let mut bytes = matrix.blocks().expect("quantised");
        let at = bytes.len() / 40 * 37 + bytes.len() / 40 / 3;
        bytes[at..at + 2].copy_from_slice(&f16::INFINITY.to_le_bytes());
        for set in InstructionSet::available() {
            let rows = Blocks { bytes: &bytes, dtype: format.dtype(), shape };
            let found = Matrix::pack(set, format, &rows).map(drop);
            assert_eq!(
                found,
                Err(RangeError { dtype: format.dtype(), row: 37 }),
                "{format:?} {set}"
            );
        }
    }
}

#[test]
fn bf16_that_is_not_finite_is_refused() {
    let shape @ [d_out, d_in] = [40, 100];
    for bad in [bf16::NAN, bf16::INFINITY, bf16::NEG_INFINITY] {
        for (row, input) in [(0, 0), (37, 99), (17, 31), (39, 64)] {
            let stored = numbers(d_out * d_in, 3);
            let mut halves: Vec<bf16> = stored.iter().map(|&it| bf16::from_f32(it)).collect();
            halves[row * d_in + input] = bad;
            for format in FORMATS {
                for set in InstructionSet::available() {
                    let found = Matrix::pack(set, format, &Halves(&halves, shape)).map(drop);
                    let error = Err(RangeError { dtype: format.dtype(), row });
                    assert_eq!(found, error, "{format:?} {set}: {bad}");
                }
            }
        }
    }
}

#[test]
fn packing_rounds_to_half_a_step() {
    assert!(rounding(PackedFormat::Bf16) <= 1. / 256.);
    let steps = rounding(PackedFormat::Q8) * 127.;
    assert!((0.45..=0.55).contains(&steps), "{steps} steps of 8 bits");
    let steps = rounding(PackedFormat::Q4) * 8.;
    assert!((0.45..=1.3).contains(&steps), "{steps} steps of 4 bits"); // 8 itself is cut to 7
}

#[test]
fn weights_that_a_format_can_hold_are_kept() {
    let integers: Vec<f32> = (0..32 * 32).map(|i| ((i * 7 + i / 32) % 16) as f32 - 8.).collect();
    for format in FORMATS {
        let scale = if format == PackedFormat::Q8 { 127. / 8. } else { 1. };
        let stored: Vec<f32> = match format {
            PackedFormat::Q8 => integers.iter().map(|it| (it * scale).round()).collect(),
            _ => integers.clone(),
        };
        assert_eq!(packed(format, &stored, [32, 32]).rows(0..32), stored, "{format:?}");
    }
    let third = [1f32 / 3.];
    let [rounded] = packed(PackedFormat::Bf16, &third, [1, 1]).rows(0..1)[..] else { panic!() };
    assert_eq!(rounded, bf16::from_f32(third[0]).to_f32());
}

#[test]
fn an_input_that_is_not_finite_makes_its_row_not_finite() {
    each(|format, shape @ [d_out, d_in], n, set| {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let matrix = packed(format, &numbers(d_out * d_in, 3), shape);
            let mut x = numbers(n * d_in, 5);
            x[d_in - 1] = bad;
            let found = matrix.product(set, &x);
            let (first, others) = found.split_at(d_out);
            let at = format!("{format:?} {shape:?} × {n} rows, {set}, {bad}");
            assert!(first.iter().all(|it| !it.is_finite()), "{at}: {first:?}");
            assert!(others.iter().all(|it| it.is_finite()), "{at}");
        }
    });
}

#[test]
fn values_that_a_format_cannot_hold_are_refused() {
    let shape @ [d_out, d_in] = [40, 100];
    let largest = [(PackedFormat::Bf16, 3.3e38), (PackedFormat::Q8, 8e6), (PackedFormat::Q4, 4e5)];
    for (format, most) in largest {
        for set in InstructionSet::available() {
            let with = |value: f32| {
                let mut stored = numbers(d_out * d_in, 3);
                stored[37 * d_in + 50] = value;
                let packed = Matrix::pack(set, format, &Values::new(&stored, shape));
                packed.map(|matrix| matrix.rows(37..38)[50])
            };
            for value in [most, -most] {
                let kept = with(value).unwrap();
                assert!((kept - value).abs() <= 0.05 * most, "{format:?} {set}: {kept} of {value}");
            }
            let error = Err(RangeError { dtype: format.dtype(), row: 37 });
            let beyond = if format == PackedFormat::Bf16 { f32::MAX } else { 3. * most };
            let all =
                [beyond, -beyond, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN];
            for value in all {
                assert_eq!(with(value), error, "{format:?} {set}: {value}");
            }
        }
    }
}

/// Steps of a block are not below 2⁻²⁴.
#[test]
fn small_weights_keep_a_step() {
    let least = 2f32.powi(-24);
    for (format, levels, half) in [(PackedFormat::Q8, 127., 0.51), (PackedFormat::Q4, 8., 1.3)] {
        for unit in [1e-3, 1e-4, 1.1e-5, 5e-6, 1e-6, 3e-7, 1e-7, 1e-8, 1e-20, 1e-30, 1e-40] {
            let stored: Vec<f32> = numbers(48 * 96, 3).into_iter().map(|it| it * unit).collect();
            let kept = packed(format, &stored, [48, 96]).rows(0..48);
            let difference = stored.iter().zip(&kept).map(|(a, b)| (a - b).abs());
            let most = difference.fold(0f32, f32::max);
            assert!(most <= half * (unit / levels + least), "{format:?} {unit}: {most}");
            assert_eq!(kept.iter().all(|it| *it == 0.), unit <= 1e-8, "{format:?} {unit}");
        }
    }
}

#[test]
#[should_panic(expected = "a weight [18446744073709551615, 18446744073709551615]: beyond")]
fn a_shape_beyond_the_address_space_is_refused() {
    struct Vast;
    impl StoredRows for Vast {
        fn shape(&self) -> [usize; 2] {
            [usize::MAX; 2]
        }

        fn read(&self, _: usize, _: &mut [f32]) {}
    }
    let _ = Matrix::pack(InstructionSet::Portable, PackedFormat::Q8, &Vast);
}

#[test]
#[should_panic(expected = "row 5 of a weight of 5 rows")]
fn a_row_behind_the_last_is_refused() {
    packed(PackedFormat::Q8, &numbers(35, 3), [5, 7]).rows(5..6);
}

#[test]
fn zeros_stay_zeros() {
    for format in FORMATS {
        let matrix = packed(format, &[0.; 48 * 40], [48, 40]);
        for set in InstructionSet::available() {
            assert!(
                matrix.product(set, &numbers(80, 7)).iter().all(|it| *it == 0.),
                "{format:?} {set}"
            );
            let other = packed(format, &numbers(48 * 40, 3), [48, 40]);
            assert!(other.product(set, &[0.; 80]).iter().all(|it| *it == 0.), "{format:?} {set}");
        }
    }
}

#[test]
fn a_matrix_has_the_bytes_that_are_forecast() {
    for shape in SHAPES {
        for (format, dtype) in
            FORMATS.into_iter().zip([WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4])
        {
            let matrix = packed(format, &numbers(shape[0] * shape[1], 3), shape);
            let bytes = match &matrix.panels {
                Panels::Bf16(lines) => size_of_val(&lines[..]),
                Panels::Quantised(it) => size_of_val(&it.lines[..]) + size_of_val(&it.scales[..]),
            };
            assert_eq!(weight_bytes(dtype, shape), bytes as u64, "{format:?} {shape:?}");
        }
    }
}
