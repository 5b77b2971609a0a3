#![allow(unsafe_code)]

use std::env::VarError;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

/// Instruction set of the products with packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// No particular one.
    Portable,
    /// x86-64: AVX2, FMA, F16C.
    Avx2,
    /// x86-64: AVX-512 F, BW, DQ, VL, VNNI and BF16.
    Avx512,
    /// x86-64: AMX tiles of int8 and bf16, and [`Self::Avx512`].
    Amx,
}

/// Value of `LITEMOE_KERNELS` that this machine cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstructionSetError {
    /// No such instruction set.
    #[error("LITEMOE_KERNELS={0}: no such instruction set; there are portable, avx2, avx512, amx")]
    Unknown(String),
    /// The processor or the operating system lacks it.
    #[error("LITEMOE_KERNELS={0}: this machine has no such instructions")]
    Missing(InstructionSet),
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Amx];

    /// The instruction set that the environment variable `LITEMOE_KERNELS` names, else the best that the machine has.
    ///
    /// # Errors
    /// The variable names an unknown instruction set, or one that the machine lacks.
    pub fn chosen() -> Result<Self, InstructionSetError> {
        static CHOSEN: LazyLock<Result<InstructionSet, InstructionSetError>> =
            LazyLock::new(|| InstructionSet::of(std::env::var("LITEMOE_KERNELS")));
        CHOSEN.clone()
    }

    /// That of a value of the variable; an empty one is none.
    fn of(variable: Result<String, VarError>) -> Result<Self, InstructionSetError> {
        match variable {
            Ok(name) if !name.is_empty() => name.parse(),
            Ok(_) | Err(VarError::NotPresent) => {
                Ok(Self::available().last().unwrap_or(Self::Portable))
            }
            Err(VarError::NotUnicode(name)) => {
                Err(InstructionSetError::Unknown(name.to_string_lossy().into_owned()))
            }
        }
    }

    /// The instruction set of all kernels.
    ///
    /// # Panics
    /// When the environment asks for one that the machine lacks, see [`Self::chosen`].
    pub(crate) fn in_use() -> Self {
        Self::chosen().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Calls a function that is compiled for these instructions where it is inlined: loops over numbers vectorise with
    /// them. The results are the same bits.
    #[inline(always)]
    pub(crate) fn vectorise<R>(self, f: impl FnOnce() -> R) -> R {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn avx2<R>(f: impl FnOnce() -> R) -> R {
                f()
            }
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512<R>(f: impl FnOnce() -> R) -> R {
                f()
            }
            match self {
                Self::Portable => {}
                // SAFETY: the set is used only where it is available.
                Self::Avx2 => return unsafe { avx2(f) },
                // SAFETY: as above.
                Self::Avx512 | Self::Amx => return unsafe { avx512(f) },
            }
        }
        f()
    }

    /// The instruction sets that the machine has, the slowest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|set| set.is_available())
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                    && is_x86_feature_detected!("avx512bf16")
            }
            Self::Amx => Self::Avx512.is_available() && super::amx_support::is_available(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        self == Self::Portable
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
        })
    }
}

impl FromStr for InstructionSet {
    type Err = InstructionSetError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|set| set.to_string() == name);
        let set = found.ok_or_else(|| InstructionSetError::Unknown(name.to_owned()))?;
        if set.is_available() { Ok(set) } else { Err(InstructionSetError::Missing(set)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_an_instruction_set_or_nothing() {
        let best = InstructionSet::available().last().ok_or_else(|| unreachable!());
        assert_eq!(InstructionSet::of(Err(VarError::NotPresent)), best);
        assert_eq!(InstructionSet::of(Ok(String::new())), best);
        let portable = InstructionSet::of(Ok("portable".to_owned()));
        assert_eq!(portable, Ok(InstructionSet::Portable));
        let unknown = |name: &str| Err(InstructionSetError::Unknown(name.to_owned()));
        assert_eq!(InstructionSet::of(Ok("avx".to_owned())), unknown("avx"));
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt;
            let name = VarError::NotUnicode(std::ffi::OsString::from_vec(vec![b'a', 0xff]));
            assert_eq!(InstructionSet::of(Err(name)), unknown("a\u{fffd}"));
        }
    }
}
