use burn::tensor::{Device, Tensor};
use litemoe_kernels::LinearWeight;
use proptest::prelude::*;

use crate::case::{assert_close, constant, matrix, tracked};

proptest! {
    #[test]
    fn is_the_product_with_the_stored_weight(
        (x, weight, grad) in (0usize..12, 1usize..12, 1usize..12).prop_flat_map(|(n, d_in, d_out)| {
            (matrix(n, d_in), matrix(d_out, d_in), matrix(n, d_out))
        }),
    ) {
        let linear = LinearWeight::from_stored(constant(&weight));
        prop_assert_eq!([linear.d_out(), linear.d_in()], constant(&weight).dims());
        linear.stored().into_data().assert_eq(&weight, true);
        let plain = |x: Tensor<2>| x.matmul(constant(&weight).transpose());
        assert_close(linear.forward(constant(&x)), plain(constant(&x)), 1e-6);
        if x.num_elements() > 0 {
            let gradient = |f: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x = tracked(&x);
                let gradients = (f(x.clone()) * constant(&grad)).sum().backward();
                x.grad(&gradients).expect("the input's gradient")
            };
            assert_close(gradient(&|x| linear.forward(x)), gradient(&plain), 1e-6);
        }
    }
}

#[test]
fn lives_where_the_stored_weight_did() {
    let device = Device::flex();
    let linear = LinearWeight::from_stored(Tensor::ones([3, 2], &device));
    assert_eq!(linear.device(), device);
}
