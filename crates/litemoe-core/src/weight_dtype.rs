use crate::name::named_enum;

named_enum! {
    /// Number format of frozen weights in memory.
    #[derive(Default)]
    WeightDtype, "weight dtype", {
        /// 32-bit floating point.
        #[default]
        F32 = "f32",
        /// bfloat16, 2 bytes per weight. Products round their inputs to bf16 too and accumulate in f32.
        Bf16 = "bf16",
        /// 8-bit integers with an f16 scale per 32 inputs, 1.06 bytes per weight. Products round their inputs likewise.
        Q8 = "q8",
        /// 4-bit integers with an f16 scale per 32 inputs, .56 bytes per weight. Inputs are rounded to 8 bits.
        Q4 = "q4",
    }
}
