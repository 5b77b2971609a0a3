use litemoe_core::WeightDtype;

/// Outputs of a panel, and inputs of a block, to which packed weights are padded.
const PANEL: usize = 16;
const BLOCK: usize = 32;

/// Bytes of a weight `[d_out, d_in]` in memory. Packed formats pad outputs to 16 and inputs to 32.
pub fn weight_bytes(dtype: WeightDtype, [d_out, d_in]: [usize; 2]) -> u64 {
    let n_blocks = d_out.div_ceil(PANEL) as u64 * PANEL as u64 * d_in.div_ceil(BLOCK) as u64;
    // Of the 32 inputs of a block, and of its f16 scale.
    n_blocks
        * match dtype {
            WeightDtype::F32 => return 4 * d_out as u64 * d_in as u64,
            WeightDtype::Bf16 => 64,
            WeightDtype::Q8 => 32 + 2,
            WeightDtype::Q4 => 16 + 2,
        }
}
