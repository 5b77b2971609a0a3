/// Seconds of each program in each round; `measure` runs a program in a round, both counted as given: rounds from 1,
/// programs from 0. `None` for a program that failed, which is not run again.
pub(super) fn rounds(
    n: usize,
    programs: usize,
    mut measure: impl FnMut(usize, usize) -> Option<f64>,
) -> Vec<Option<Vec<f64>>> {
    let mut all = vec![Some(Vec::new()); programs];
    for round in 1..=n {
        for (at, seconds) in all.iter_mut().enumerate() {
            let Some(of_rounds) = seconds else { continue };
            match measure(round, at) {
                Some(found) => of_rounds.push(found),
                None => *seconds = None,
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_left_out_and_the_others_go_on() {
        let mut runs = Vec::new();
        let found = rounds(3, 3, |round, at| {
            runs.push((round, at));
            (at != 1 || round == 1).then_some((10 * round + at) as f64)
        });
        assert_eq!(found, [Some(vec![10.0, 20.0, 30.0]), None, Some(vec![12.0, 22.0, 32.0])]);
        assert_eq!(runs, [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 2)]);
    }
}
