use std::collections::HashMap;
use std::ops::AddAssign;

/// Maximum n-gram order.
const MAX_ORDER: usize = 6;

/// β² of the F-score: recall has weight β = 2, hence chrF2.
const BETA_SQUARED: f64 = 4.0;

/// chrF2 counts: character n-grams of order 1 to 6, without white space. Counts of several texts can be added, and the
/// score of the sum is the corpus score.
///
/// Source: Popović, "chrF: character n-gram F-score for automatic MT evaluation" (WMT 2015); same values as sacrebleu
/// 2.6 with its defaults, `chrF2|case:mixed|eff:yes|nc:6|nw:0|space:no`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chrf {
    orders: [Counts; MAX_ORDER],
}

/// N-gram counts of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    text: u64,
    reference: u64,
    both: u64,
}

impl Chrf {
    /// Counts of a text against its best-scoring reference (ties: the first); zeros without references.
    pub fn of<'r>(text: &str, references: impl IntoIterator<Item = &'r str>) -> Self {
        let text = Ngrams::of(text);
        let counts = references.into_iter().map(|reference| text.against(&Ngrams::of(reference)));
        let higher = |best: Self, next: Self| if next.score() > best.score() { next } else { best };
        counts.reduce(higher).unwrap_or_default()
    }

    /// chrF2 in [0, 1]: F₂ of mean precision and mean recall over the orders in which both sides have n-grams; 0 if
    /// there are none.
    pub fn score(&self) -> f64 {
        let both = self.orders.iter().filter(|counts| counts.text > 0 && counts.reference > 0);
        let n_orders = both.clone().count() as f64;
        let mean = |share: fn(&Counts) -> f64| both.clone().map(share).sum::<f64>() / n_orders;
        let precision = mean(|counts| counts.both as f64 / counts.text as f64);
        let recall = mean(|counts| counts.both as f64 / counts.reference as f64);
        // Also false for NaN, the value without n-grams.
        if precision + recall > 0.0 {
            (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
        } else {
            0.0
        }
    }
}

impl AddAssign for Chrf {
    fn add_assign(&mut self, other: Self) {
        for (counts, other) in self.orders.iter_mut().zip(other.orders) {
            counts.text += other.text;
            counts.reference += other.reference;
            counts.both += other.both;
        }
    }
}

/// N-gram frequencies of a text, by order.
struct Ngrams {
    orders: [HashMap<Box<[char]>, u64>; MAX_ORDER],
}

impl Ngrams {
    fn of(text: &str) -> Self {
        let letters: Vec<char> = text.chars().filter(|&letter| !is_space(letter)).collect();
        let mut orders: [HashMap<_, _>; MAX_ORDER] = Default::default();
        for (n, counts) in orders.iter_mut().enumerate() {
            letters.windows(n + 1).for_each(|ngram| *counts.entry(ngram.into()).or_default() += 1);
        }
        Self { orders }
    }

    fn against(&self, reference: &Self) -> Chrf {
        let mut orders = [Counts::default(); MAX_ORDER];
        for (counts, (text, reference)) in
            orders.iter_mut().zip(self.orders.iter().zip(&reference.orders))
        {
            let shared = |(ngram, &n): (_, &u64)| n.min(*reference.get(ngram).unwrap_or(&0));
            counts.reference = reference.values().sum();
            // An order without n-grams in the reference does not lower the score.
            if counts.reference > 0 {
                counts.text = text.values().sum();
                counts.both = text.iter().map(shared).sum();
            }
        }
        Chrf { orders }
    }
}

/// White space of Python's `str.split`: Unicode white space and the ASCII separators.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}
