use burn::tensor::Tensor;
use litemoe_core::ExpertWeights;
use ordered_float::OrderedFloat;
use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// Neuron permutation alignment: Hungarian matching of `absorbed`'s neurons to `centroid`'s at the least total cost (LiteMoE
/// §3.4). Entry `j` is the neuron of `absorbed` that is merged into the centroid's neuron `j`.
///
/// The cost of a pair is half the sum of the Euclidean distances between their gate rows, their up rows and their down
/// columns, so one permutation serves all three matrices. `None` if a weight is not finite. Both experts must have the
/// same shapes.
pub fn align(centroid: &ExpertWeights, absorbed: &ExpertWeights) -> Option<Vec<u32>> {
    let d_expert = centroid.up.dims()[0];
    let costs: Vec<OrderedFloat<f64>> =
        cost(centroid, absorbed).into_data().iter().map(OrderedFloat).collect();
    if costs.iter().any(|cost| !cost.is_finite()) {
        return None;
    }
    let costs = Matrix::from_vec(d_expert, d_expert, costs).ok()?;
    let (_, neurons) = kuhn_munkres_min(&costs);
    Some(neurons.into_iter().map(|neuron| neuron as u32).collect())
}

/// The cost matrix of all pairs of neurons, `[d_expert of centroid, d_expert of absorbed]`.
fn cost(centroid: &ExpertWeights, absorbed: &ExpertWeights) -> Tensor<2> {
    let up = distances(centroid.up.clone(), absorbed.up.clone());
    let down = distances(centroid.down.clone().transpose(), absorbed.down.clone().transpose());
    let sum = match (&centroid.gate, &absorbed.gate) {
        (Some(centroid), Some(absorbed)) => {
            up + down + distances(centroid.clone(), absorbed.clone())
        }
        _ => up + down,
    };
    sum.mul_scalar(0.5)
}

/// Pairwise distances ‖xᵢ − yⱼ‖ of rows, from ‖x‖² + ‖y‖² − 2x·y.
fn distances(x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    let squares = |rows: &Tensor<2>| rows.clone().square().sum_dim(1);
    let (x_squares, y_squares) = (squares(&x), squares(&y).transpose());
    let products = x.matmul(y.transpose()).mul_scalar(2.0);
    (x_squares + y_squares - products).clamp_min(0.0).sqrt()
}
