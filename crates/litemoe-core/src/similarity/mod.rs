//! Expert similarities: each is a function from a layer's sums to a symmetric matrix, one per file.

mod affinity;
mod expert_output_gated;
mod kind;
mod record;
mod table;

pub use self::affinity::affinity;
pub use self::expert_output_gated::expert_output_gated;
pub use self::kind::SimilarityKind;
pub use self::record::Similarity;
