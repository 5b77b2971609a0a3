use ordered_float::OrderedFloat;
use pathfinding::kuhn_munkres::{Weights, kuhn_munkres};

/// Hungarian matching (linear assignment): chooses a centroid (host) for each moderate expert so that the total
/// similarity of the pairs is maximal and no host absorbs more than `max_merged` experts (LiteMoE §3.3: a
/// transportation problem, solved exactly).
///
/// `similarity` is the layer's symmetric matrix. The result has one entry per moderate expert: the host's index in the
/// layer, or `None` if all hosts are full or the similarity to every host with room is negative.
pub fn match_to_hosts(
    similarity: &[Vec<f64>],
    moderate: &[usize],
    hosts: &[usize],
    max_merged: usize,
) -> Vec<Option<usize>> {
    let places = Places { similarity, moderate, hosts, max_merged };
    if moderate.is_empty() {
        return Vec::new();
    }
    let (_, columns) = kuhn_munkres(&places);
    columns.into_iter().map(|column| places.host(column)).collect()
}

/// The assignment problem: a row per moderate expert; `max_merged` columns per host, then one column of weight 0 per
/// moderate expert for staying unmatched.
struct Places<'a> {
    similarity: &'a [Vec<f64>],
    moderate: &'a [usize],
    hosts: &'a [usize],
    max_merged: usize,
}

impl Places<'_> {
    fn host(&self, column: usize) -> Option<usize> {
        // a host never needs more columns than there are experts to merge
        self.hosts.get(column / self.places_per_host()?).copied()
    }

    fn places_per_host(&self) -> Option<usize> {
        match self.max_merged.min(self.moderate.len()) {
            0 => None,
            places => Some(places),
        }
    }
}

impl Weights<OrderedFloat<f64>> for Places<'_> {
    fn rows(&self) -> usize {
        self.moderate.len()
    }

    fn columns(&self) -> usize {
        self.hosts.len() * self.places_per_host().unwrap_or(0) + self.moderate.len()
    }

    fn at(&self, row: usize, column: usize) -> OrderedFloat<f64> {
        let similarity = |host: usize| self.similarity[self.moderate[row]][host];
        OrderedFloat(self.host(column).map_or(0.0, similarity))
    }

    fn neg(&self) -> Self {
        unreachable!("only a maximum is asked for")
    }
}
