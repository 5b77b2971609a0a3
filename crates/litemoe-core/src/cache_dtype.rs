use crate::name::named_enum;

named_enum! {
    /// Number format of the keys and values in a KV cache.
    #[derive(Default)]
    CacheDtype, "cache dtype", {
        /// 32-bit floating point.
        #[default]
        F32 = "f32": "4 bytes per value",
        /// bfloat16: each value is rounded to 2 bytes, products and sums are in f32.
        Bf16 = "bf16": "2 bytes per value, rounded; products and sums in f32",
    }
}

impl CacheDtype {
    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}
