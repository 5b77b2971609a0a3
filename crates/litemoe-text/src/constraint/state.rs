use std::fmt;
use std::sync::Arc;

use litemoe_core::{ConstraintError, TokenConstraint, TokenSet};
use llguidance::Matcher;

use super::error::one_line;

/// Beginning of the library's error when no token continues the text.
const NO_TOKEN: &str = "NoExtensionBias";

/// State of one text under a [`Grammar`](crate::Grammar): which tokens may come next.
///
/// End-of-sequence tokens are allowed exactly where the grammar may end, and are the only ones where it must. Special
/// tokens are not text: they are allowed only where the grammar names them.
pub struct Constraint {
    matcher: Matcher,
    /// Tokens that may not come first; `None` after the first.
    not_first: Option<Arc<[u32]>>,
}

impl Constraint {
    pub(super) fn new(matcher: Matcher, not_first: Arc<[u32]>) -> Self {
        Self { matcher, not_first: Some(not_first) }
    }

    /// Whether only end-of-sequence tokens may follow.
    pub fn is_over(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Whether the text may end here.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`]
    pub fn may_end(&mut self) -> Result<bool, ConstraintError> {
        Ok(self.is_over() || self.matcher.is_accepting().map_err(|error| failed(&error))?)
    }
}

impl TokenConstraint for Constraint {
    fn allowed(&mut self) -> Result<TokenSet, ConstraintError> {
        let mask = match self.matcher.compute_mask_or_eos() {
            Ok(mask) => mask,
            Err(error) if error.to_string().starts_with(NO_TOKEN) => return Ok(TokenSet::default()),
            Err(error) => return Err(failed(&error)),
        };
        let mut allowed = TokenSet::from_words(mask.into());
        for &token in self.not_first.iter().flat_map(|tokens| tokens.iter()) {
            allowed.remove(token);
        }
        Ok(allowed)
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.not_first = None;
        match self.is_over() && !self.matcher.is_error() {
            true => Ok(()),
            false => self.matcher.consume_token(token).map_err(|error| failed(&error)),
        }
    }

    fn boxed_clone(&self) -> Box<dyn TokenConstraint> {
        Box::new(self.clone())
    }
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.clone(), not_first: self.not_first.clone() }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("is_over", &self.is_over()).finish_non_exhaustive()
    }
}

fn failed(error: &impl fmt::Display) -> ConstraintError {
    ConstraintError::Failed { reason: one_line(error) }
}
