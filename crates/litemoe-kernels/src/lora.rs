#[cfg(feature = "flex")]
use burn::backend::TensorMetadata;
use burn::tensor::Tensor;
use litemoe_core::Adapter;

/// Output delta of an adapter, as [`Adapter::delta`]: LoRA's `scale · (x·A)·B` (arXiv 2106.09685).
///
/// On the CPU and without gradients, every row is computed alike, whatever the number of rows: the same bits in a batch as
/// alone, which Burn's products do not promise.
///
/// # Shapes
/// - `x`: `[n, d_in]`
/// - output: `[n, d_out]`
pub fn adapter_delta(adapter: &Adapter, x: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if kernel::fits(adapter.lora(), &x) {
        return kernel::delta(adapter.lora(), x);
    }
    adapter.delta(x)
}

#[cfg(feature = "flex")]
mod kernel {
    use burn::tensor::{Bytes, DType, Shape, Tensor};
    use burn_flex::{Flex, FlexTensor, Layout};
    use litemoe_core::Lora;
    use rayon::prelude::*;

    use super::TensorMetadata;
    use crate::matrix::InstructionSet;
    use crate::primitive::{AsPrimitive, contiguous, is_host, values};

    /// Minimum number of multiplications per parallel task.
    const WORK_PER_TASK: usize = 1 << 18;

    /// Whether the product is untracked, on the CPU and in f32.
    pub(super) fn fits(lora: &Lora, x: &Tensor<2>) -> bool {
        [x, &lora.a, &lora.b].into_iter().all(|tensor| {
            let device = tensor.device();
            is_host(&device) && !device.is_autodiff() && tensor.dtype() == DType::F32
        })
    }

    pub(super) fn delta(lora: &Lora, x: Tensor<2>) -> Tensor<2> {
        let primitive = |tensor| contiguous(Flex::primitive(tensor));
        let (x, a) = (primitive(x), primitive(lora.a.clone()));
        let b = primitive(lora.b.clone());
        let [n, d_in] = x.shape().dims();
        let [rank, d_out] = b.shape().dims();
        let (x, a, b) = (values(&x), values(&a), values(&b));
        let set = InstructionSet::in_use();
        let mut output = vec![0f32; n * d_out];
        let row = |(row, output): (usize, &mut [f32])| {
            set.vectorise(|| delta_of_row(&x[row * d_in..][..d_in], a, b, lora.scale, output));
        };
        let rows_per_task = WORK_PER_TASK.div_ceil((rank * (d_in + d_out)).max(1));
        if n < 2 * rows_per_task {
            output.chunks_exact_mut(d_out.max(1)).enumerate().for_each(row);
        } else {
            let rows = output.par_chunks_exact_mut(d_out.max(1)).with_min_len(rows_per_task);
            rows.enumerate().for_each(row);
        }
        let layout = Layout::contiguous(Shape::new([n, d_out]));
        Flex::tensor(FlexTensor::new(Bytes::from_elems(output), layout, DType::F32))
    }

    /// One row: `[d_in]` → `[d_out]`. Inlined, to be vectorised by the caller.
    #[inline(always)]
    fn delta_of_row(x: &[f32], a: &[f32], b: &[f32], scale: f32, output: &mut [f32]) {
        let rank = a.len() / x.len().max(1);
        // Sixteen columns of A at a time, so that the sums stay in registers.
        for from in (0..rank).step_by(16) {
            let width = (rank - from).min(16);
            let sums = match width {
                16 => columns::<16>(x, a, rank, from),
                8 => widened(columns::<8>(x, a, rank, from)),
                4 => widened(columns::<4>(x, a, rank, from)),
                _ => {
                    let mut sums = [0f32; 16];
                    for (column, sum) in sums[..width].iter_mut().enumerate() {
                        *sum = columns::<1>(x, a, rank, from + column)[0];
                    }
                    sums
                }
            };
            for (column, sum) in sums[..width].iter().enumerate() {
                let factor = sum * scale;
                let row = &b[(from + column) * output.len()..][..output.len()];
                for (output, value) in output.iter_mut().zip(row) {
                    *output += factor * value;
                }
            }
        }
    }

    /// Columns `from..from + N` of `x·A`.
    #[inline(always)]
    fn columns<const N: usize>(x: &[f32], a: &[f32], rank: usize, from: usize) -> [f32; N] {
        let mut sums = [[0f32; N]; 4];
        // Four sums in turn: an addition need not wait for the one before.
        for (index, x) in x.iter().enumerate() {
            let row = &a[index * rank + from..][..N];
            let sums = &mut sums[index % 4];
            for lane in 0..N {
                sums[lane] += x * row[lane];
            }
        }
        let [one, two, three, four] = sums;
        let mut total = [0f32; N];
        for lane in 0..N {
            total[lane] = (one[lane] + two[lane]) + (three[lane] + four[lane]);
        }
        total
    }

    #[inline(always)]
    fn widened<const N: usize>(sums: [f32; N]) -> [f32; 16] {
        let mut wide = [0f32; 16];
        wide[..N].copy_from_slice(&sums);
        wide
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};
    use litemoe_core::Lora;
    use proptest::prelude::*;

    use super::*;
    use crate::test_numbers::numbers;

    proptest! {
        #[test]
        fn it_is_the_product_and_a_row_has_the_same_bits_alone(
            n in 1usize..40, d_in in 1usize..70, d_out in 1usize..70, rank in 1usize..40,
            scale in -2f32..2.0,
        ) {
            let device = Device::flex();
            let random = |shape: [usize; 2], seed| {
                let values = numbers(shape.iter().product(), seed);
                Tensor::<2>::from_data(TensorData::new(values, shape), &device)
            };
            let x = random([n, d_in], 1);
            let lora = Lora { a: random([d_in, rank], 2), b: random([rank, d_out], 3), scale };
            let adapter = Adapter::from(lora);
            prop_assert!(kernel::fits(adapter.lora(), &x));
            let rows = |tensor: Tensor<2>| tensor.into_data().try_into_vec::<f32>().unwrap();
            let found = adapter_delta(&adapter, x.clone());
            let far = (found.clone() - adapter.delta(x.clone())).abs().max().into_scalar::<f32>();
            prop_assert!(far < 1e-5 * (1 + d_in * rank) as f32, "{far}");
            for row in 0..n {
                let alone = adapter_delta(&adapter, x.clone().narrow(0, row, 1));
                prop_assert_eq!(rows(alone), rows(found.clone().narrow(0, row, 1)));
            }
        }
    }
}
