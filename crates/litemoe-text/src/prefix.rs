/// Removes a prefix from streamed text, if the text begins with it. Text that may be the start of the prefix is held
/// back.
#[derive(Debug)]
pub(crate) struct Prefix {
    /// `None` once it is decided whether the text begins with the prefix.
    expected: Option<String>,
    held: String,
}

impl Prefix {
    pub(crate) fn new(expected: String) -> Self {
        Self { expected: Some(expected), held: String::new() }
    }

    /// The text after the prefix, and the number of bytes of the prefix if it was removed just now.
    pub(crate) fn push(&mut self, piece: &str) -> (String, usize) {
        let Some(expected) = &self.expected else { return (piece.to_owned(), 0) };
        self.held += piece;
        if let Some(rest) = self.held.strip_prefix(expected.as_str()) {
            let removed = (rest.to_owned(), expected.len());
            self.expected = None;
            return removed;
        }
        if expected.starts_with(&self.held) {
            return (String::new(), 0);
        }
        (self.finish(), 0)
    }

    /// The text held back, if there is no more text.
    pub(crate) fn finish(&mut self) -> String {
        match self.expected.take() {
            Some(_) => std::mem::take(&mut self.held),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Prefix;

    fn pushed(pieces: &[&str]) -> (Vec<String>, usize) {
        let mut prefix = Prefix::new("<a>\n".to_owned());
        let (texts, removed): (Vec<_>, Vec<_>) = pieces.iter().map(|p| prefix.push(p)).unzip();
        (texts.into_iter().chain([prefix.finish()]).collect(), removed.into_iter().sum())
    }

    #[test]
    fn only_a_whole_prefix_is_removed() {
        for (pieces, texts, removed) in [
            (&["<", "a>", "\nb", "<a>\n"][..], &["", "", "b", "<a>\n", ""][..], 4),
            (&["<a>\n"], &["", ""], 4),
            (&["<a", ">b"], &["", "<a>b", ""], 0),
            (&["b", "<a>\n"], &["b", "<a>\n", ""], 0),
            (&["<a>"], &["", "<a>"], 0),
            (&[], &[""], 0),
        ] {
            assert_eq!(pushed(pieces), (texts.iter().map(|t| (*t).to_owned()).collect(), removed));
        }
    }
}
