use std::fmt;

use subtle::ConstantTimeEq;

/// A secret text, which is not shown in debug output.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether a text is the secret, in a time that does not depend on how much of it is equal.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
