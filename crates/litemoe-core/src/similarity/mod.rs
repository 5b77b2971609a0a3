//! How alike two experts of a layer are: a function from the layer's sums to a symmetric table, a file each.

mod affinity;
mod expert_output_gated;
mod kind;
mod record;
mod table;

pub use self::affinity::affinity;
pub use self::expert_output_gated::expert_output_gated;
pub use self::kind::SimilarityKind;
pub use self::record::Similarity;
