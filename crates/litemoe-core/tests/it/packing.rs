use burn::tensor::{Device, Int, Tensor};
use litemoe_core::{Adapters, Lora, Packing, Site};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn unpadding_undoes_padding(lens in prop::collection::vec(1usize..9, 1..6)) {
        let device = Device::flex();
        let packing = Packing::new(lens.clone(), &device);
        let tokens: usize = lens.iter().sum();
        let values: Vec<f32> = (0..tokens * 3).map(|v| v as f32).collect();
        let packed = Tensor::<1>::from_floats(values.as_slice(), &device).reshape([tokens, 3]);
        let padded = packing.pad(packed.clone());
        prop_assert_eq!(padded.dims(), [packing.batch() * packing.seq(), 3]);
        prop_assert_eq!(packing.unpad(padded).into_data(), packed.into_data());
    }
}

#[test]
fn a_tracked_adapter_of_plain_weights_gets_gradients() {
    let plain = Device::flex();
    let tracked = plain.clone().autodiff();
    let some = |shape: [usize; 2], device: &Device| {
        let len = shape.iter().product::<usize>() as i64;
        Tensor::<1, Int>::arange(1..len + 1, device).float().sin().reshape(shape)
    };
    let a = some([4, 2], &tracked).require_grad();
    let b = some([2, 3], &tracked).require_grad();
    let site = Site::new("w");
    let adapters: Adapters =
        [(site.clone(), Lora { a: a.clone(), b: b.clone(), scale: 0.5 })].into_iter().collect();
    let (x, w) = (some([5, 4], &plain), some([4, 3], &plain));
    let adapter = adapters.at(site.as_str()).expect("it was inserted");
    let y = x.clone().matmul(w) + adapter.delta(x);
    // A second frozen weight after the adapter, so that the gradient passes through it.
    let grads = y.matmul(some([3, 3], &plain)).square().sum().backward();
    for gradient in [a.grad(&grads), b.grad(&grads)] {
        let largest: f32 = gradient.expect("a gradient").abs().max().into_scalar();
        assert!(largest > 1e-6);
    }
}
