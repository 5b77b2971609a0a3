use crate::name::named_enum;

named_enum! {
    /// Similarity measure of two experts of a layer.
    SimilarityKind, "similarity", {
        /// [`affinity`](super::affinity())
        Affinity = "affinity": "closeness and level of router probabilities (LiteMoE, doi 10.1145/3666025.3699355)",
        /// [`expert_output_gated`](super::expert_output_gated())
        ExpertOutputGated = "expert_output_gated": "cosine of the mean gated outputs (HC-SMoE, arXiv 2410.08589; REAM, arXiv 2604.04356)",
    }
}
