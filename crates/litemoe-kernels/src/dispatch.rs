use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};

/// The places of a batch sorted by expert. A place is a token's choice of an expert; place `p` of
/// the flattened `[tokens, top_k]` belongs to token `p / top_k`.
#[derive(Debug)]
pub(crate) struct Dispatch {
    top_k: usize,
    /// Places in order of expert, then of token; those without an expert are left out.
    places: Vec<usize>,
    /// The experts that have tokens, ascending, each with its range of `places`.
    groups: Vec<(usize, Range<usize>)>,
}

impl Dispatch {
    /// Sorts the choices (one read by the host). The index `n_experts` means no expert.
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

    /// Places that have an expert.
    pub(crate) fn n_rows(&self) -> usize {
        self.places.len()
    }

    /// Experts that have tokens, each with its range of the sorted places.
    pub(crate) fn groups(&self) -> &[(usize, Range<usize>)] {
        &self.groups
    }

    /// The tokens of some of the sorted places.
    pub(crate) fn tokens_of(&self, range: &Range<usize>) -> Vec<usize> {
        self.places[range.clone()].iter().map(|place| place / self.top_k).collect()
    }

    /// The token of each sorted place.
    pub(crate) fn token_indices(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.places.iter().map(|place| place / self.top_k), device)
    }

    /// The sorted places as indices into `[tokens * top_k]`.
    pub(crate) fn place_indices(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.places.iter().copied(), device)
    }
}

fn indices(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.map(|value| value as i64).collect();
    Tensor::from_data(values.as_slice(), device)
}
