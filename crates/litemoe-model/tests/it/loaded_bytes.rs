//! Bytes of the weights in memory are those that the headers tell. Packed weights are not on the heap, which holds the rest.

use burn::tensor::Device;
use litemoe_core::WeightDtype;
use litemoe_model::{Checkpoint, Model, Part};

use crate::setup::{TINY, tiny};

/// Bytes per tensor and expert, besides the values: shapes, names, allocations.
const OVERHEAD: i64 = 2048;
/// Bytes by which these differ between the formats, biases and norms of heads included.
const SLACK: i64 = 24_000;

#[test]
fn a_loaded_model_has_the_bytes_that_its_headers_tell() {
    for name in TINY {
        let checkpoint = Checkpoint::open(tiny(name)).unwrap();
        let besides = |dtype: WeightDtype| {
            let told = checkpoint.loaded_bytes(dtype).into_iter().filter(|((_, part), _)| {
                dtype == WeightDtype::F32 || matches!(part, Part::Routers | Part::Norms)
            });
            let told: u64 = told.map(|(_, bytes)| bytes).sum();
            let mut model = None;
            let load = || model = Model::load_as(&checkpoint, &Device::flex(), dtype).ok();
            let found = allocation_counter::measure(load).bytes_current;
            assert!(model.is_some(), "{name} {dtype}");
            found - i64::try_from(told).unwrap()
        };
        let n_experts: usize = checkpoint.moe_layers().iter().map(|layer| layer.n_experts).sum();
        let n = (checkpoint.stored_parts().count() + n_experts) as i64;
        let of_f32 = besides(WeightDtype::F32);
        assert!((0..n * OVERHEAD).contains(&of_f32), "{name}: {of_f32} besides");
        for dtype in [WeightDtype::Bf16, WeightDtype::Q8, WeightDtype::Q4] {
            let other = besides(dtype);
            assert!((other - of_f32).abs() < SLACK, "{name} {dtype}: {other}, f32 {of_f32}");
        }
    }
}
