use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};

/// Sorted dispatch: the token–expert pairs (slots) of a batch sorted by expert. Slot `p` of the flattened
/// `[tokens, top_k]` belongs to token `p / top_k`.
#[derive(Debug)]
pub(crate) struct Dispatch {
    top_k: usize,
    /// Slots sorted by expert, then by token; slots without an expert are left out.
    places: Vec<usize>,
    /// Experts with tokens, ascending, each with its range in `places`.
    groups: Vec<(usize, Range<usize>)>,
}

impl Dispatch {
    /// Sorts the selected experts after one copy to the host. The index `n_experts` means no expert.
    ///
    /// # Panics
    /// When an index is above `n_experts`.
    pub(crate) fn new(chosen: Tensor<2, Int>, n_experts: usize) -> Self {
        let [_, top_k] = chosen.dims();
        let mut by_expert = vec![Vec::new(); n_experts];
        for (place, expert) in chosen.into_data().iter::<i64>().enumerate() {
            match usize::try_from(expert) {
                Ok(expert) if expert < n_experts => by_expert[expert].push(place),
                Ok(expert) if expert == n_experts => {}
                _ => panic!("expert {expert} chosen of {n_experts}"),
            }
        }
        let mut end = 0;
        let groups = by_expert.iter().enumerate().filter(|(_, places)| !places.is_empty());
        let groups = groups.map(|(expert, places)| {
            let start = end;
            end += places.len();
            (expert, start..end)
        });
        let groups = groups.collect();
        Self { top_k, places: by_expert.concat(), groups }
    }

    /// Number of slots with an expert.
    pub(crate) fn n_rows(&self) -> usize {
        self.places.len()
    }

    /// Experts with tokens, ascending, each with its range of sorted slots.
    pub(crate) fn groups(&self) -> &[(usize, Range<usize>)] {
        &self.groups
    }

    /// Token indices of a range of sorted slots.
    pub(crate) fn tokens_of(&self, range: &Range<usize>) -> Vec<usize> {
        self.places[range.clone()].iter().map(|place| place / self.top_k).collect()
    }

    /// Selected experts per token.
    #[cfg(feature = "flex")]
    pub(crate) fn top_k(&self) -> usize {
        self.top_k
    }

    /// Sorted slots, as indices into the flattened `[tokens, top_k]`.
    #[cfg(feature = "flex")]
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }

    /// Token index of each sorted slot.
    pub(crate) fn token_indices(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.places.iter().map(|place| place / self.top_k), device)
    }

    /// Sorted slots as indices into `[tokens * top_k]`.
    pub(crate) fn place_indices(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.places.iter().copied(), device)
    }
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|value| value as i64).collect();
    Tensor::from_data(values.as_slice(), device)
}
