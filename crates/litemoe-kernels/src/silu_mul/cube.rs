use burn::backend::TensorMetadata;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::op::Kernels;

impl Kernels for CubeBackend {
    fn forward(gate_up: CubeTensor) -> CubeTensor {
        let gate_up = into_contiguous(gate_up);
        let [n, width] = gate_up.shape().dims();
        let output = empty(&gate_up, [n, width / 2]);
        let Some((count, dim)) = one_unit_each(&output, n * width / 2) else { return output };
        forward_kernel::launch(
            &output.client,
            count,
            dim,
            gate_up.into_tensor_arg(),
            output.clone().into_tensor_arg(),
        );
        output
    }

    fn backward(gate_up: CubeTensor, grad: CubeTensor) -> CubeTensor {
        let (gate_up, grad) = (into_contiguous(gate_up), into_contiguous(grad));
        let [n, width] = gate_up.shape().dims();
        let output = empty(&gate_up, [n, width]);
        let Some((count, dim)) = one_unit_each(&output, n * width / 2) else { return output };
        backward_kernel::launch(
            &output.client,
            count,
            dim,
            gate_up.into_tensor_arg(),
            grad.into_tensor_arg(),
            output.clone().into_tensor_arg(),
        );
        output
    }
}

/// One thread per element of `output`.
#[cube(launch)]
fn forward_kernel(gate_up: &Tensor<f32>, output: &mut Tensor<f32>) {
    let d_expert = output.shape(1);
    let row = ABSOLUTE_POS / d_expert;
    let column = ABSOLUTE_POS % d_expert;
    if row < output.shape(0) {
        let gate = gate_up[row * gate_up.stride(0) + column];
        let up = gate_up[row * gate_up.stride(0) + d_expert + column];
        let at = row * output.stride(0) + column;
        output[at] = gate * sigmoid(gate) * up;
    }
}

/// One thread per element of `grad`; it writes the gradients of gate and up.
#[cube(launch)]
fn backward_kernel(gate_up: &Tensor<f32>, grad: &Tensor<f32>, output: &mut Tensor<f32>) {
    let d_expert = grad.shape(1);
    let row = ABSOLUTE_POS / d_expert;
    let column = ABSOLUTE_POS % d_expert;
    if row < grad.shape(0) {
        let gate = gate_up[row * gate_up.stride(0) + column];
        let up = gate_up[row * gate_up.stride(0) + d_expert + column];
        let grad = grad[row * grad.stride(0) + column];
        let sigmoid = sigmoid(gate);
        let d_gate = grad * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
        let at = row * output.stride(0) + column;
        output[at] = d_gate;
        output[at + d_expert] = grad * gate * sigmoid;
    }
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn empty(like: &CubeTensor, dims: [usize; 2]) -> CubeTensor {
    empty_device_dtype(like.client.clone(), like.device.clone(), Shape::new(dims), like.dtype)
}

/// Launch grid with one thread per element; `None` for zero elements.
fn one_unit_each(tensor: &CubeTensor, n_units: usize) -> Option<(CubeCount, CubeDim)> {
    if n_units == 0 {
        return None;
    }
    let dim = CubeDim::new(&tensor.client, n_units);
    Some((calculate_cube_count_elemwise(&tensor.client, n_units, dim), dim))
}
