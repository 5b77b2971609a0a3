use litemoe_core::{BatchLimits, Input, batches};

/// Row lengths of each batch, for rows of the given lengths.
fn cut(lens: &[usize], rows: usize, tokens: usize) -> Vec<Vec<usize>> {
    let texts: Vec<Vec<u32>> = lens.iter().map(|&len| vec![0; len]).collect();
    let lens = |batch: &Input| batch.rows.iter().map(Vec::len).collect();
    batches(&texts, BatchLimits { rows, tokens }).iter().map(lens).collect()
}

#[test]
fn rows_and_padded_tokens_limit_a_batch() {
    assert_eq!(cut(&[3, 1, 2, 1, 1], 2, 100), [vec![3, 1], vec![2, 1], vec![1]]);
    assert_eq!(cut(&[3, 1, 1, 3, 1], 9, 8), [vec![3, 1], vec![1, 3], vec![1]]);
    assert_eq!(cut(&[1, 9, 1], 9, 4), [[1], [9], [1]]);
}
