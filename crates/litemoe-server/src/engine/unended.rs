use litemoe_core::{ConstraintError, TokenConstraint, TokenSet};

/// Keeps a text from ending before it has a number of tokens: those that would end it are not sampled.
#[derive(Debug, Clone)]
pub(super) struct Unended {
    all: TokenSet,
    /// Those that do not end the text.
    others: TokenSet,
    /// Number of tokens until the text may end.
    n_left: usize,
}

impl Unended {
    pub(super) fn new(vocab: usize, ends: impl IntoIterator<Item = u32>, n_left: usize) -> Self {
        let all: TokenSet = (0..u32::try_from(vocab).unwrap_or(u32::MAX)).collect();
        let mut others = all.clone();
        ends.into_iter().for_each(|end| others.remove(end));
        Self { all, others, n_left }
    }
}

impl TokenConstraint for Unended {
    fn allowed(&mut self) -> Result<TokenSet, ConstraintError> {
        Ok(if self.n_left > 0 { &self.others } else { &self.all }.clone())
    }

    fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
        self.n_left = self.n_left.saturating_sub(1);
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn TokenConstraint> {
        Box::new(self.clone())
    }
}
