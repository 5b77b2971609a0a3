use half::bf16;

use super::layout::{BF16_LINES, BLOCK, Bits, LANES, Line, Panels, Quantised};

impl Panels {
    /// Dequantises an output's row, `[d_in]`.
    pub(super) fn unpack(&self, output: usize, n_blocks: usize, row: &mut [f32]) {
        let (panel, lane) = (output / LANES, output % LANES);
        for (block, values) in (panel * n_blocks..).zip(row.chunks_mut(BLOCK)) {
            let all = match self {
                Self::Bf16(lines) => bf16_values(&lines[block * BF16_LINES..][..BF16_LINES], lane),
                Self::Quantised(quantised) => quantised.values(block, lane),
            };
            values.copy_from_slice(&all[..values.len()]);
        }
    }
}

impl Quantised {
    /// Appends an output's row in [blocks](crate::block_bytes).
    pub(super) fn append_blocks(&self, output: usize, n_blocks: usize, bytes: &mut Vec<u8>) {
        let (panel, lane) = (output / LANES, output % LANES);
        let n_lines = self.bits.lines();
        let sign = if self.bits == Bits::Eight { 0x80 } else { 0 };
        for block in panel * n_blocks..(panel + 1) * n_blocks {
            bytes.extend(self.scales[block][lane].to_le_bytes());
            let lines = &self.lines[block * n_lines..][..n_lines];
            bytes.extend(lines.iter().flat_map(|line| line.lane(lane)).map(|byte| byte ^ sign));
        }
    }
}

fn bf16_values(lines: &[Line], lane: usize) -> [f32; BLOCK] {
    std::array::from_fn(|input| {
        let [a, b, c, d] = lines[input / 2].lane(lane);
        bf16::from_le_bytes(if input % 2 == 0 { [a, b] } else { [c, d] }).to_f32()
    })
}

impl Quantised {
    fn values(&self, block: usize, lane: usize) -> [f32; BLOCK] {
        let n_lines = self.bits.lines();
        let lines = &self.lines[block * n_lines..][..n_lines];
        let scale = self.scales[block][lane].to_f32();
        std::array::from_fn(|input| {
            let four = input / 4;
            let byte = lines[four % n_lines].lane(lane)[input % 4];
            let stored = match (n_lines, four < n_lines) {
                (8, _) => byte,
                (_, true) => byte & 0xf,
                (_, false) => byte >> 4,
            };
            (i32::from(stored) - self.bits.offset()) as f32 * scale
        })
    }
}
