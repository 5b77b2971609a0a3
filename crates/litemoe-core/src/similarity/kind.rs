use crate::name::named_enum;

named_enum! {
    /// Similarity measure of two experts of a layer.
    SimilarityKind, "similarity", {
        /// [`affinity`](super::affinity())
        Affinity = "affinity",
        /// [`expert_output_gated`](super::expert_output_gated())
        ExpertOutputGated = "expert_output_gated",
    }
}
