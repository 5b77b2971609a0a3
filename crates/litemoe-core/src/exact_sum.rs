use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

/// Exact sums of f64 terms, kept without rounding: the result does not depend on the order of the terms.
///
/// Each sum is a floating-point expansion of non-overlapping parts (Shewchuk, "Adaptive Precision Floating-Point
/// Arithmetic and Fast Robust Geometric Predicates", 1997; Python's `math.fsum`) in canonical form: part 0 is the sum
/// rounded to nearest, ties to even; each further part is the remainder, rounded the same way. Equal sums have equal
/// bits.
///
/// JSON form: one list per part, with one number per sum.
///
/// A sum that overflows, or receives a term that is not finite, stays non-finite.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactSums {
    /// One row per part, at least one; if there are several, the last row is not all zero.
    parts: Vec<Vec<f64>>,
}

impl ExactSums {
    /// `n` sums of no terms.
    pub fn zeros(n: usize) -> Self {
        Self { parts: vec![vec![0.0; n]] }
    }

    /// The sums, each rounded to nearest.
    pub fn values(&self) -> &[f64] {
        &self.parts[0]
    }

    /// Number of sums.
    pub fn n_sums(&self) -> usize {
        self.values().len()
    }

    /// Adds a term to the sum at `index`.
    ///
    /// # Panics
    /// When `index` is out of range.
    pub fn add(&mut self, index: usize, term: f64) {
        self.add_term(index, term, &mut Vec::new());
        self.trim();
    }

    /// Adds `terms[i]` to sum `i`.
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

    /// Adds `other` elementwise.
    ///
    /// # Panics
    /// When `other` has more sums.
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

/// Accepts parts that are not canonical, and normalises them.
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

/// TwoSum (Knuth): the rounded sum and its rounding error. Exact unless the sum overflows.
fn two_sum(x: f64, y: f64) -> (f64, f64) {
    let sum = x + y;
    let y_part = sum - x;
    let x_part = sum - y_part;
    (sum, (x - x_part) + (y - y_part))
}

/// Grow-Expansion (Shewchuk): adds a term to an expansion whose parts ascend in magnitude and are not zero. On overflow
/// the expansion becomes a single non-finite part.
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

/// Value of an expansion rounded to nearest, ties to even, as in `math.fsum`.
fn rounded(expansion: &[f64]) -> f64 {
    let Some((&largest, mut smaller)) = expansion.split_last() else { return 0.0 };
    let mut sum = largest;
    while let Some((&part, rest)) = smaller.split_last() {
        let (high, low) = two_sum(sum, part);
        (sum, smaller) = (high, rest);
        if low == 0.0 {
            continue;
        }
        // A tie between two floats: the sign of the remaining smaller parts decides.
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
