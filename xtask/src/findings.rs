//! Problems found by a check, one sentence each.

use std::fmt;

use anyhow::{Result, bail};

/// One sentence per problem, naming the file or crate.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    pub(crate) fn add(&mut self, sentence: String) {
        self.0.push(sentence);
    }

    pub(crate) fn extend(&mut self, sentences: impl IntoIterator<Item = String>) {
        self.0.extend(sentences);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An error that lists the problems, if there are any.
    pub(crate) fn into_result(self) -> Result<()> {
        if !self.0.is_empty() {
            bail!("{} finding(s)\n{self}", self.0.len());
        }
        Ok(())
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|sentence| writeln!(f, "- {sentence}"))
    }
}
