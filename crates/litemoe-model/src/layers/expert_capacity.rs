use burn::tensor::{Int, Tensor, TensorData};
use litemoe_core::Routing;

/// Expert capacity: in each row, an expert keeps its first `capacity` tokens. Later ones are dropped: their expert
/// index is `n_experts` (Switch Transformers, arXiv 2101.03961).
pub(crate) fn within_capacity(
    routing: Routing,
    row_lens: &[usize],
    capacity: usize,
    n_experts: usize,
) -> Routing {
    if row_lens.iter().all(|&len| len <= capacity) {
        return routing;
    }
    let [tokens, top_k] = routing.experts.dims();
    let device = routing.experts.device();
    let mut chosen: Vec<i64> = routing.experts.into_data().iter::<i64>().collect();
    let mut rest = chosen.as_mut_slice();
    for &len in row_lens {
        let (row, after) = rest.split_at_mut(len * top_k);
        let mut taken = vec![0; n_experts];
        for choice in row {
            let Some(taken) = usize::try_from(*choice).ok().and_then(|e| taken.get_mut(e)) else {
                continue;
            };
            *taken += 1;
            if *taken > capacity {
                *choice = n_experts as i64;
            }
        }
        rest = after;
    }
    let experts = Tensor::<2, Int>::from_data(TensorData::new(chosen, [tokens, top_k]), &device);
    Routing { experts, ..routing }
}
