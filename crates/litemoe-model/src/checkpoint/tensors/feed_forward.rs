use litemoe_core::{LayerId, StackOrder};

use super::{Expected, Wanted};
use crate::checkpoint::stored::{MXFP4_BLOCK, StoredDtype, StoredTensor, StoredTensors};
use crate::config::{MoeConfig, NetworkConfig, RouterKind};
use crate::families::family::Names;

/// Whether a block's experts are stored as two fused tensors, as transformers 5 holds them in memory. The names decide:
/// shapes are ambiguous when `d_model = 2 * d_expert`.
pub(crate) fn is_stacked(stored: &StoredTensors, block: LayerId, names: &Names) -> bool {
    stored.contains_key(&*names.path(block, names.stacks[0]))
}

/// Order of gate and up in a fused tensor: in blocks, which are runs of inputs, always rows.
pub(crate) fn order_of(gate_up: &StoredTensor, names: &Names) -> StackOrder {
    match gate_up.dtype {
        StoredDtype::Blocks(_) => StackOrder::Rows,
        _ => names.stack_order,
    }
}

/// Whether the fused expert tensors are MXFP4.
pub(crate) fn is_quantised(stored: &StoredTensors, block: LayerId, names: &Names) -> bool {
    names.stack_order == StackOrder::Interleaved
        && stored.contains_key(&*(names.path(block, names.stacks[0]) + "_blocks"))
}

impl Wanted<'_> {
    /// Adds the tensors of an MoE layer, except separately stored experts; returns whether the experts are stored
    /// separately.
    pub(super) fn moe(
        &mut self,
        block: LayerId,
        moe: &MoeConfig,
        d_model: usize,
        n_experts: usize,
    ) -> bool {
        let names = self.names;
        let router = names.path(block, names.router);
        self.weight(&router, &[moe.n_experts, d_model]);
        if moe.router_bias {
            self.bias(&router, moe.n_experts);
        }
        if moe.router == RouterKind::Sigmoid {
            self.named(format!("{router}.e_score_correction_bias"), &[moe.n_experts]);
        }
        if let Some(d_hidden) = moe.shared {
            self.shared(&names.path(block, names.shared), moe, [d_model, d_hidden]);
        }
        let widths = [d_model, moe.d_expert];
        if is_quantised(self.stored, block, names) {
            self.quantised(block, n_experts, widths);
        } else if is_stacked(self.stored, block, names) || names.stacked_only() {
            self.stacks(block, n_experts, widths, moe.biased);
        } else {
            return true;
        }
        false
    }

    /// Adds the tensors of a separately stored expert.
    pub(super) fn expert(
        &mut self,
        block: LayerId,
        expert: usize,
        moe: &MoeConfig,
        d_model: usize,
    ) {
        let path = self.names.path(block, self.names.experts) + &expert.to_string();
        self.network(&path, self.names.parts, moe.network, [d_model, moe.d_expert]);
    }

    /// Adds gate, up and down of a dense MLP or of one expert.
    pub(super) fn network(
        &mut self,
        path: &str,
        parts: [&str; 3],
        network: NetworkConfig,
        widths: [usize; 2],
    ) {
        let [d_model, d_hidden] = widths;
        let [gate, up, down] = parts;
        if network.gated {
            self.weight(&format!("{path}.{gate}"), &[d_hidden, d_model]);
        }
        self.weight(&format!("{path}.{up}"), &[d_hidden, d_model]);
        self.weight(&format!("{path}.{down}"), &[d_model, d_hidden]);
    }

    fn shared(&mut self, path: &str, moe: &MoeConfig, widths: [usize; 2]) {
        let [d_model, d_hidden] = widths;
        let [gate, ..] = self.names.dense_parts;
        // A shared expert of width 0 may be stored as matrices without rows, or be absent.
        if d_hidden > 0 || self.stored.contains_key(&*format!("{path}.{gate}.weight")) {
            self.network(path, self.names.dense_parts, NetworkConfig::SWIGLU, widths);
        }
        if !moe.ungated_shared {
            self.weight(&format!("{path}_gate"), &[1, d_model]);
        }
    }

    fn stacks(&mut self, block: LayerId, n_experts: usize, widths: [usize; 2], biased: bool) {
        let [d_model, d_expert] = widths;
        let names = self.names;
        let stored = self.stored.get(&*names.path(block, names.stacks[0]));
        let order = stored.map_or(names.stack_order, |stored| order_of(stored, names));
        let shapes = match order {
            StackOrder::Rows => [[2 * d_expert, d_model], [d_model, d_expert]],
            StackOrder::Columns | StackOrder::Interleaved => {
                [[d_model, 2 * d_expert], [d_expert, d_model]]
            }
        };
        for (stack, [rows, columns]) in self.names.stacks.into_iter().zip(shapes) {
            self.named(self.names.path(block, stack), &[n_experts, rows, columns]);
        }
        if biased {
            self.stack_biases(block, n_experts, widths);
        }
    }

    fn stack_biases(&mut self, block: LayerId, n_experts: usize, [d_model, d_expert]: [usize; 2]) {
        for (stack, width) in self.names.stacks.into_iter().zip([2 * d_expert, d_model]) {
            self.named(self.names.path(block, stack) + "_bias", &[n_experts, width]);
        }
    }

    /// MXFP4: blocks of 32 values, two per byte, and one scale per block.
    fn quantised(&mut self, block: LayerId, n_experts: usize, widths: [usize; 2]) {
        let [d_model, d_expert] = widths;
        let shapes = [[2 * d_expert, d_model], [d_model, d_expert]];
        for (stack, [rows, columns]) in self.names.stacks.into_iter().zip(shapes) {
            let n_blocks = columns.div_ceil(MXFP4_BLOCK);
            let path = self.names.path(block, stack);
            let shape = [n_experts, rows, n_blocks, MXFP4_BLOCK / 2];
            let bytes =
                |name, shape: &[usize]| Expected { name, shape: shape.to_vec(), bytes: true };
            self.all.push(bytes(format!("{path}_blocks"), &shape));
            self.all.push(bytes(format!("{path}_scales"), &shape[..3]));
        }
        self.stack_biases(block, n_experts, widths);
    }
}
