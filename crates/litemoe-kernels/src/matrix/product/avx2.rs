#![allow(unsafe_code)]

use super::operands::{Bf16Product, Int8Product};
use super::portable;
use crate::matrix::columns::Columns;

pub(super) fn bf16(product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn run(product: &Bf16Product<'_>, columns: &mut Columns<'_>) {
        portable::bf16(product, columns);
    }
    // SAFETY: `InstructionSet::Avx2` is used only where these features are.
    unsafe { run(product, columns) }
}

pub(super) fn int8(product: &Int8Product<'_>, columns: &mut Columns<'_>) {
    #[target_feature(enable = "avx2,fma,f16c")]
    fn run(product: &Int8Product<'_>, columns: &mut Columns<'_>) {
        portable::int8(product, columns);
    }
    // SAFETY: as above.
    unsafe { run(product, columns) }
}
