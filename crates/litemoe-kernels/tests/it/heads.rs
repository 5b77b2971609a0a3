//! One pass over heads against plain tensor operations.

use burn::tensor::Tensor;
use litemoe_kernels::{HeadMap, Rotation, fuses_heads, map_heads};
use proptest::prelude::*;

use crate::case::{constant, floats, matrix, tracked};

fn normalised(x: Tensor<4>, weight: Tensor<2>, eps: f64) -> Tensor<4> {
    let mean = x.clone().square().mean_dim(3);
    x / mean.add_scalar(eps).sqrt() * weight.unsqueeze::<4>()
}

fn rotated(x: Tensor<4>, [cos, sin]: [Tensor<4>; 2], interleaved: bool) -> Tensor<4> {
    let [rows, positions, heads, width] = x.dims();
    let half = width / 2;
    let x = if interleaved {
        let pairs = x.reshape([rows, positions, heads, half, 2]);
        pairs.swap_dims(3, 4).reshape([rows, positions, heads, width])
    } else {
        x
    };
    let swapped = vec![x.clone().narrow(3, half, half), x.clone().narrow(3, 0, half)];
    x * cos + Tensor::cat(swapped, 3) * sin
}

proptest! {
    #[test]
    fn equals_plain_operations(
        ([rows, positions, heads, half], x, weight, cos, sin) in [1usize..4, 1usize..6, 1usize..5, 1usize..24]
            .prop_flat_map(|[rows, positions, heads, half]| {
                let (tokens, width) = (rows * positions, 2 * half);
                let table = || matrix(positions, width);
                let dims = Just([rows, positions, heads, half]);
                (dims, matrix(tokens, heads * width), matrix(1, width), table(), table())
            }),
        (has_norm, has_rotation, interleaved, is_view) in any::<(bool, bool, bool, bool)>(),
        scale in prop_oneof![Just(1.), 0.1f64..2.],
    ) {
        let (d_head, weight) = (2 * half, constant(&weight));
        let tables = [&cos, &sin].map(|it| constant(it).reshape([1, positions, 1, d_head]));
        let rotation = Rotation { cos: &tables[0], sin: &tables[1], interleaved };
        let norm = has_norm.then_some((&weight, 1e-5));
        let map = HeadMap { norm, rotation: has_rotation.then_some(rotation), scale };
        let input = constant(&x);
        let all = Tensor::cat(vec![input.clone(), input.clone()], 0);
        let view = all.clone().narrow(0, rows * positions, rows * positions);
        let found = floats(map_heads(if is_view { view } else { input.clone() }, d_head, &map));
        let kept = constant(&x);
        input.clone().into_data().assert_eq(&kept.into_data(), true);
        let expected = input.reshape([rows, positions, heads, d_head]);
        let expected = match norm {
            Some((weight, eps)) => normalised(expected, weight.clone(), eps),
            None => expected,
        };
        let expected = if has_rotation { rotated(expected, tables.clone(), interleaved) } else { expected };
        let expected = floats(expected.mul_scalar(scale));
        let unit = expected.iter().fold(1e-3f32, |unit, it| unit.max(it.abs()));
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found - expected).abs() <= 2e-6 * unit, "{found} is not {expected}");
        }
    }
}

#[test]
fn tracked_tensors_have_no_kernel() {
    let x = Tensor::<2>::ones([1, 4], &burn::tensor::Device::flex()).into_data();
    assert!(fuses_heads(&constant(&x)));
    assert!(!fuses_heads(&tracked(&x)));
}
