use litemoe_core::CacheDtype;

use super::kernel::{Row, run};
use super::key_values::KeyValues;
use super::span::AttentionSpan;
use crate::matrix::InstructionSet;
use crate::test_numbers::numbers;

/// 70 queries after 30 tokens, 6 heads on 2, keys of width 24, values of width 80: five lanes, a panel and one more.
fn output(set: InstructionSet, dtype: CacheDtype) -> Vec<f32> {
    let mut keys_values = KeyValues::new(2, 24, 80, dtype);
    keys_values.write(0, &numbers(100 * 2 * 24, 1), &numbers(100 * 2 * 80, 2));
    let (queries, mut output) = (numbers(70 * 6 * 24, 3), vec![0.; 70 * 6 * 80]);
    let row = Row {
        queries: &queries,
        start: 30,
        keys_values: &keys_values,
        output: &mut output,
        log_sums: &mut [],
    };
    run(set, vec![row], 6, AttentionSpan::Window(80), Some(&numbers(6, 4)));
    output
}

#[test]
fn instruction_sets_agree() {
    for &dtype in CacheDtype::ALL {
        let portable = output(InstructionSet::Portable, dtype);
        for set in InstructionSet::available() {
            let found = output(set, dtype);
            let differences = found.iter().zip(&portable).map(|(x, y)| (x - y).abs());
            assert!(differences.fold(0., f32::max) <= 2e-6, "{set}, {dtype}");
        }
    }
}

/// The order of sums is that of the keys and of the head's width, not of the registers.
#[test]
fn instruction_sets_with_fused_multiply_adds_give_the_same_bits() {
    for &dtype in CacheDtype::ALL {
        let mut fused = InstructionSet::available().skip(1).map(|set| output(set, dtype));
        let Some(first) = fused.next() else { return };
        assert!(fused.all(|other| other == first), "{dtype}");
    }
}
