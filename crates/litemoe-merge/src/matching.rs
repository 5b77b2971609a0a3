use ordered_float::OrderedFloat;
use pathfinding::kuhn_munkres::{Weights, kuhn_munkres};

/// Hungarian matching (linear assignment): chooses a centroid for each moderate expert so that the total
/// similarity of the pairs is maximal and no centroid absorbs more than `max_merged` experts (LiteMoE §3.3: a
/// transportation problem, solved exactly).
///
/// `similarity` is the layer's symmetric matrix. The result has one entry per moderate expert: the centroid's index in the
/// layer, or `None` if all centroids are full or the similarity to every centroid with room is negative.
pub fn match_to_centroids(
    similarity: &[Vec<f64>],
    moderate: &[usize],
    centroids: &[usize],
    max_merged: usize,
) -> Vec<Option<usize>> {
    let places = Places { similarity, moderate, centroids, max_merged };
    if moderate.is_empty() {
        return Vec::new();
    }
    let (_, columns) = kuhn_munkres(&places);
    columns.into_iter().map(|column| places.centroid(column)).collect()
}

/// The assignment problem: a row per moderate expert; `max_merged` columns per centroid, then one column of weight 0 per
/// moderate expert for staying unmatched.
struct Places<'a> {
    similarity: &'a [Vec<f64>],
    moderate: &'a [usize],
    centroids: &'a [usize],
    max_merged: usize,
}

impl Places<'_> {
    fn centroid(&self, column: usize) -> Option<usize> {
        // a centroid never needs more columns than there are experts to merge
        self.centroids.get(column / self.places_per_host()?).copied()
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
        self.centroids.len() * self.places_per_host().unwrap_or(0) + self.moderate.len()
    }

    fn at(&self, row: usize, column: usize) -> OrderedFloat<f64> {
        let similarity = |centroid: usize| self.similarity[self.moderate[row]][centroid];
        OrderedFloat(self.centroid(column).map_or(0.0, similarity))
    }

    fn neg(&self) -> Self {
        unreachable!("only a maximum is asked for")
    }
}
