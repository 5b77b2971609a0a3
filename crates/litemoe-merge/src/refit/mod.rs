//! Ridge regression of a proxy's down projections (refit), so that its residual stream follows the foundation's.
//!
//! It works layer by layer. Z is the kept experts' gated inner activations on the proxy's own stream, with all earlier
//! layers refitted; r is the foundation's stream minus the proxy's. The down projections W change by the ridge solution
//! S = (ZᵀZ + λI)⁻¹ Zᵀr, which brings W to (ZᵀZ + λI)⁻¹ Zᵀ(t − ZW) + W for the target t = ZW + r. Related work: "GRAIL:
//! Post-hoc Compensation by Linear Reconstruction for Compressed Networks" (arXiv 2602.23795), "MergeMoE: Efficient
//! Compression of MoE Models via Expert Output Merging" (arXiv 2510.14436).

mod change;
mod check_row;
mod options;
mod run;
mod seen;
mod solve;
mod sums;

pub use change::DownChange;
pub use options::RefitOptions;
pub use run::{LayerRefit, TakeLayer, refit, sum_bytes};
pub use seen::GatedInner;
pub use solve::{Solution, solve};
pub use sums::RefitSums;
