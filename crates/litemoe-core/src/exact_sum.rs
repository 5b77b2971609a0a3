use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

/// Sums of f64 terms kept without rounding, so that the order of the terms does not matter.
///
/// Each sum is an expansion, floats that do not overlap (Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast
/// Robust Geometric Predicates", 1997; Python's `math.fsum`), in canonical form: the first part is the sum rounded to nearest,
/// ties to even, the next part what is then missing, rounded the same way, and so on. Equal sums have equal bits.
///
/// In JSON it is a list for each part: the sums rounded, then what these lack, as far as any of them lacks something.
///
/// A sum that a term, or the sum on the way, takes out of the range of finite numbers stays out of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactSums {
    /// A row per part, at least one; the last of several is not all zero.
    parts: Vec<Vec<f64>>,
}

impl ExactSums {
    /// `n` empty sums.
    pub fn zeros(n: usize) -> Self {
        Self { parts: vec![vec![0.0; n]] }
    }

    /// The sums, each rounded to nearest.
    pub fn values(&self) -> &[f64] {
        &self.parts[0]
    }

    /// How many sums there are.
    pub fn n_sums(&self) -> usize {
        self.values().len()
    }

    /// Adds a term to one sum.
    ///
    /// # Panics
    /// When there is no such sum.
    pub fn add(&mut self, index: usize, term: f64) {
        self.add_term(index, term, &mut Vec::new());
        self.trim();
    }

    /// Adds a term to each sum.
    ///
    /// # Panics
    /// When there are more terms than sums.
    pub fn add_each(&mut self, terms: &[f64]) {
        let mut expansion = Vec::new();
        for (index, &term) in terms.iter().enumerate() {
            self.add_term(index, term, &mut expansion);
        }
        self.trim();
    }

    /// Adds other sums, each to the one in its place.
    ///
    /// # Panics
    /// When there are more of them.
    pub fn merge(&mut self, other: &Self) {
        other.parts.iter().for_each(|terms| self.add_each(terms));
    }

    fn add_term(&mut self, index: usize, term: f64, expansion: &mut Vec<f64>) {
        expansion.clear();
        expansion.extend(self.parts.iter().rev().map(|part| part[index]).filter(|&p| p != 0.0));
        grow(expansion, term);
        let mut row = 0;
        while row < self.parts.len() || !expansion.is_empty() {
            if row == self.parts.len() {
                self.parts.push(vec![0.0; self.n_sums()]);
            }
            let part = rounded(expansion);
            self.parts[row][index] = part;
            if part.is_finite() {
                grow(expansion, -part);
            } else {
                expansion.clear();
            }
            row += 1;
        }
    }

    fn trim(&mut self) {
        while self.parts.len() > 1 && self.parts.last().is_some_and(|p| p.iter().all(|&p| p == 0.0))
        {
            self.parts.pop();
        }
    }
}

/// Sums of one term each.
impl From<Vec<f64>> for ExactSums {
    fn from(terms: Vec<f64>) -> Self {
        let mut sums = Self::zeros(terms.len());
        sums.add_each(&terms);
        sums
    }
}

impl Serialize for ExactSums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.parts.serialize(serializer)
    }
}

/// Parts that are not canonical are made so.
impl<'de> Deserialize<'de> for ExactSums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::<Vec<f64>>::deserialize(deserializer)?;
        let first = parts.first().ok_or_else(|| D::Error::custom("sums without a value"))?;
        if parts.iter().any(|part| part.len() != first.len()) {
            return Err(D::Error::custom("the parts of sums are lists of different lengths"));
        }
        let mut sums = Self::zeros(first.len());
        parts.iter().for_each(|terms| sums.add_each(terms));
        Ok(sums)
    }
}

/// The sum rounded to nearest, and what it lacks: exact unless the sum overflows (TwoSum, Knuth).
fn two_sum(x: f64, y: f64) -> (f64, f64) {
    let sum = x + y;
    let y_part = sum - x;
    let x_part = sum - y_part;
    (sum, (x - x_part) + (y - y_part))
}

/// Adds a term to an expansion, smallest part first and without zeros (Shewchuk's Grow-Expansion). One that overflows
/// becomes a single part that is not finite.
fn grow(expansion: &mut Vec<f64>, term: f64) {
    let (mut sum, mut kept) = (term, 0);
    for index in 0..expansion.len() {
        let (high, low) = two_sum(sum, expansion[index]);
        if high.is_finite() && low != 0.0 {
            expansion[kept] = low;
            kept += 1;
        }
        sum = high;
    }
    expansion.truncate(if sum.is_finite() { kept } else { 0 });
    if sum != 0.0 {
        expansion.push(sum);
    }
}

/// An expansion's value rounded to nearest, ties to even, as `math.fsum` does it.
fn rounded(expansion: &[f64]) -> f64 {
    let Some((&largest, mut smaller)) = expansion.split_last() else { return 0.0 };
    let mut sum = largest;
    while let Some((&part, rest)) = smaller.split_last() {
        let (high, low) = two_sum(sum, part);
        (sum, smaller) = (high, rest);
        if low == 0.0 {
            continue;
        }
        // Half-way between two floats: the sign of what is still smaller decides.
        let twice = 2.0 * low;
        if rest.last().is_some_and(|below| (below < &0.0) == (low < 0.0))
            && (sum + twice) - sum == twice
        {
            sum += twice;
        }
        break;
    }
    sum
}
