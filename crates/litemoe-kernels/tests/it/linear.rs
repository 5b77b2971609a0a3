use burn::tensor::{Device, Int, Tensor};
use litemoe_core::WeightDtype;
use litemoe_kernels::LinearWeight;
use proptest::prelude::*;

use crate::case::{assert_close, constant, magnitudes, matrix, tracked};

proptest! {
    #[test]
    fn is_the_product_with_the_stored_weight(
        (x, weight, grad) in (0usize..12, 1usize..12, 1usize..12).prop_flat_map(|(n, d_in, d_out)| {
            (matrix(n, d_in), matrix(d_out, d_in), matrix(n, d_out))
        }),
    ) {
        let linear = LinearWeight::from_stored(constant(&weight), WeightDtype::F32);
        prop_assert_eq!([linear.d_out(), linear.d_in()], constant(&weight).dims());
        linear.stored().into_data().assert_eq(&weight, true);
        let plain = |x: Tensor<2>| x.matmul(constant(&weight).transpose());
        let (x_unit, weight_unit) = (constant(&magnitudes(&x)), constant(&magnitudes(&weight)));
        let unit = x_unit.matmul(weight_unit.clone().transpose());
        assert_close(linear.forward(constant(&x)), plain(constant(&x)), unit, 1e-6);
        if x.num_elements() > 0 {
            let gradient = |f: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x = tracked(&x);
                let gradients = (f(x.clone()) * constant(&grad)).sum().backward();
                x.grad(&gradients).expect("the input's gradient")
            };
            let unit = constant(&magnitudes(&grad)).matmul(weight_unit);
            assert_close(gradient(&|x| linear.forward(x)), gradient(&plain), unit, 1e-6);
        }
    }
}

#[test]
fn stored_rows_are_rows_of_the_stored_weight() {
    let device = Device::flex();
    let weight = Tensor::<1, Int>::arange(0..70 * 33, &device).float().reshape([70, 33]);
    let linear = LinearWeight::from_stored(weight.clone(), WeightDtype::F32);
    for indices in [vec![], vec![3_i64], vec![69, 0, 7, 7, 31]] {
        let indices = Tensor::<1, Int>::from_data(indices.as_slice(), &device);
        let expected = weight.clone().select(0, indices.clone());
        linear.stored_rows(indices).into_data().assert_eq(&expected.into_data(), true);
    }
}

#[test]
fn lives_where_the_stored_weight_did() {
    let device = Device::flex();
    let linear = LinearWeight::from_stored(Tensor::ones([3, 2], &device), WeightDtype::F32);
    assert_eq!(linear.device(), device);
}
