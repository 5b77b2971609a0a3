use std::fmt;

use thiserror::Error;

/// Set of token ids, one bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenSet {
    words: Vec<u32>,
}

impl TokenSet {
    /// The set whose token `t` is bit `t % 32` of word `t / 32`.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// Whether a token is in the set.
    pub fn contains(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 32);
        word.is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Removes a token.
    pub fn remove(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word &= !(1 << (token % 32));
        }
    }

    /// Replaces the scores of tokens outside the set by −∞; returns whether any score is left.
    pub(crate) fn mask(&self, scores: &mut [f64]) -> bool {
        let words = self.words.iter().copied().chain(std::iter::repeat(0));
        let mut is_any = false;
        for (scores, word) in scores.chunks_mut(32).zip(words) {
            for (bit, score) in scores.iter_mut().enumerate() {
                match word >> bit & 1 == 1 {
                    true => is_any = true,
                    false => *score = f64::NEG_INFINITY,
                }
            }
        }
        is_any
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}

impl FromIterator<u32> for TokenSet {
    fn from_iter<I: IntoIterator<Item = u32>>(tokens: I) -> Self {
        let mut words = Vec::new();
        for token in tokens {
            let word = token as usize / 32;
            if words.len() <= word {
                words.resize(word + 1, 0);
            }
            words[word] |= 1 << (token % 32);
        }
        Self { words }
    }
}

/// Constrained decoding (guided decoding, structured outputs): state of one text that decides before each draw which
/// tokens may be sampled next, such as the parser of a grammar.
pub trait TokenConstraint: fmt::Debug + Send {
    /// The tokens that may come next. End-of-sequence tokens are among them when the text may end.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`]; the generation is over then.
    fn allowed(&mut self) -> Result<TokenSet, ConstraintError>;

    /// Takes the sampled token, one of those [allowed](Self::allowed).
    ///
    /// # Errors
    /// [`ConstraintError::Failed`]; the generation is over then.
    fn accept(&mut self, token: u32) -> Result<(), ConstraintError>;

    /// A copy of the state, for another text that begins alike.
    fn boxed_clone(&self) -> Box<dyn TokenConstraint>;
}

impl Clone for Box<dyn TokenConstraint> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}

/// A constraint without a next token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// No token of the model is allowed.
    #[error(
        "after {n_sampled} generated tokens the text's constraint allows none of the model's tokens"
    )]
    NothingAllowed {
        /// Number of tokens of the text that were sampled before.
        n_sampled: usize,
    },
    /// The constraint cannot be followed further, such as at its limit of work.
    #[error("the text's constraint fails: {reason}")]
    Failed {
        /// What fails.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::TokenSet;

    #[test]
    fn a_set_has_the_tokens_that_it_was_made_of() {
        let mut set: TokenSet = [0, 31, 32, 100].into_iter().collect();
        let found = |set: &TokenSet| (0..200).filter(|&t| set.contains(t)).collect::<Vec<_>>();
        assert_eq!((found(&set), set.len()), (vec![0, 31, 32, 100], 4));
        assert_eq!(TokenSet::from_words(vec![1 << 31 | 1, 1, 0, 16]), set);
        [31, 7, 1000].into_iter().for_each(|token| set.remove(token));
        assert_eq!(found(&set), [0, 32, 100]);
        assert!(!set.is_empty() && TokenSet::from_words(vec![0, 0]).is_empty());
    }

    #[test]
    fn scores_outside_of_a_set_are_masked() {
        let set: TokenSet = [1, 40, 90].into_iter().collect();
        let mut scores = vec![0.5; 70];
        assert!(set.mask(&mut scores));
        let left: Vec<_> = (0..70).filter(|&token| scores[token] > f64::NEG_INFINITY).collect();
        assert_eq!(left, [1, 40]);
        assert!(!set.mask(&mut [0.5; 1]));
    }
}
