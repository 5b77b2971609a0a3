use crate::name::named_enum;

named_enum! {
    /// Number format of frozen weights in memory.
    #[derive(Default)]
    WeightDtype, "weight dtype", {
        /// 32-bit floating point.
        #[default]
        F32 = "f32": "4 bytes per weight",
        /// bfloat16, 2 bytes per weight. Products round their inputs to bf16 too and accumulate in f32.
        Bf16 = "bf16": "2 bytes per weight",
        /// 8-bit integers with an f16 scale per 32 inputs. Products round their inputs likewise.
        Q8 = "q8": "8-bit integers with a scale per 32 inputs, 1.06 bytes per weight",
        /// 4-bit integers with an f16 scale per 32 inputs. Products round their inputs to 8 bits.
        Q4 = "q4": "4-bit integers with a scale per 32 inputs, .56 bytes per weight",
    }
}

impl WeightDtype {
    /// Whether it is f32, which files that name no format mean.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}
