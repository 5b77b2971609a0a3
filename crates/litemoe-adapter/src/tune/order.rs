use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Data order: which rows each step uses, as a function of the step alone, so a run can resume anywhere.
pub(super) struct Order {
    rows: usize,
    batch: usize,
    shuffle: Option<u64>,
    /// The last shuffled epoch, cached because shuffling is linear in the rows.
    drawn: Option<(u64, Vec<usize>)>,
}

impl Order {
    pub(super) fn new(rows: usize, batch: usize, shuffle: Option<u64>) -> Self {
        Self { rows, batch, shuffle, drawn: None }
    }

    /// Row indices of a step, counted from 1. Epochs follow each other without a gap, even within a batch.
    pub(super) fn rows_of(&mut self, step: usize) -> Vec<usize> {
        let first = (step - 1) * self.batch;
        (first..first + self.batch).map(|place| self.row_at(place)).collect()
    }

    fn row_at(&mut self, place: usize) -> usize {
        let (epoch, place) = ((place / self.rows) as u64, place % self.rows);
        let Some(seed) = self.shuffle else { return place };
        match &self.drawn {
            Some((drawn, order)) if *drawn == epoch => order[place],
            _ => {
                let order = shuffled(self.rows, seed, epoch);
                let row = order[place];
                self.drawn = Some((epoch, order));
                row
            }
        }
    }
}

/// Fisher–Yates shuffle, the same on every platform; each epoch is a stream of the seed's generator.
fn shuffled(rows: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..rows).collect();
    for last in (1..rows).rev() {
        let drawn = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, drawn as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_takes_every_row_once_in_an_order_of_its_own() {
        let mut order = Order::new(10, 4, Some(3));
        let places: Vec<usize> = (1..=5).flat_map(|step| order.rows_of(step)).collect();
        for epoch in places.chunks(10) {
            let mut sorted = epoch.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(places[..10], places[10..]);
    }

    #[test]
    fn a_step_does_not_depend_on_the_steps_before() {
        let mut straight = Order::new(7, 3, Some(1));
        let steps: Vec<_> = (1..=9).map(|step| straight.rows_of(step)).collect();
        assert_eq!(Order::new(7, 3, Some(1)).rows_of(9), steps[8]);
    }

    #[test]
    fn unshuffled_rows_keep_the_order_of_the_file() {
        let mut order = Order::new(3, 2, None);
        assert_eq!([order.rows_of(1), order.rows_of(2)], [[0, 1], [2, 0]]);
    }
}
