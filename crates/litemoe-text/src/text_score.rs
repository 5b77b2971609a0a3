use crate::{Chrf, Row};

/// Text metrics of answers against their rows: exact match with references, first and last word, chrF. All fields are
/// sums over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextScore {
    /// Number of rows with references.
    pub referenced_rows: u64,
    /// Exact match: of these, rows whose answer equals the completion or a reference, ignoring surrounding white space.
    pub accepted: u64,
    /// Rows whose answer begins with the completion's first word. A word ends at white space or an opening parenthesis:
    /// the name of a command or function.
    pub first_words: u64,
    /// Rows whose answer ends with the completion's last word, which starts after white space: the result of a
    /// calculation.
    pub last_words: u64,
    /// chrF counts against the completion and the references.
    pub chrf: Chrf,
    /// Number of rows.
    pub rows: u64,
}

impl TextScore {
    /// Adds the answer to a row.
    pub fn add(&mut self, row: &Row, answer: &str) {
        self.referenced_rows += u64::from(!row.references.is_empty());
        self.accepted += u64::from(!row.references.is_empty() && row.accepts(answer));
        let completion = row.completion().unwrap_or_default();
        self.first_words += u64::from(first_word(answer) == first_word(completion));
        self.last_words += u64::from(last_word(answer) == last_word(completion));
        self.chrf += Chrf::of(answer, row.right_answers());
        self.rows += 1;
    }

    /// Exact-match rate over rows with references, in [0, 1]; `None` without such rows.
    pub fn any_reference(&self) -> Option<f64> {
        let rows = self.referenced_rows;
        (rows > 0).then(|| self.accepted as f64 / rows as f64)
    }

    /// Share of rows with the right first word, in [0, 1].
    pub fn first_word(&self) -> f64 {
        self.first_words as f64 / self.rows as f64
    }

    /// Share of rows with the right last word, in [0, 1].
    pub fn last_word(&self) -> f64 {
        self.last_words as f64 / self.rows as f64
    }
}

impl Row {
    /// The correct answers: the completion, if there is one, and the references.
    pub fn right_answers(&self) -> impl Iterator<Item = &str> {
        self.completion().into_iter().chain(self.references.iter().map(String::as_str))
    }

    /// Whether an answer is correct, ignoring surrounding white space.
    pub fn accepts(&self, answer: &str) -> bool {
        self.right_answers().any(|right| right.trim() == answer.trim())
    }
}

fn first_word(text: &str) -> Option<&str> {
    text.trim_start().split(|letter: char| letter.is_whitespace() || letter == '(').next()
}

fn last_word(text: &str) -> Option<&str> {
    text.split_whitespace().next_back()
}
