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
        self.first_words += u64::from(first_word(answer) == first_word(&row.completion));
        self.last_words += u64::from(last_word(answer) == last_word(&row.completion));
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
    /// The correct answers: the completion and the references.
    pub fn right_answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.completion).chain(&self.references).map(String::as_str)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn score(completion: &str, references: &[&str], answer: &str) -> TextScore {
        let references = references.iter().map(ToString::to_string).collect();
        let mut score = TextScore::default();
        score.add(&Row { references, ..Row::new("", completion) }, answer);
        score
    }

    #[test]
    fn the_completion_and_every_reference_are_right() {
        for (answer, right) in [("a b", 1), (" c\n", 1), ("d", 1), ("a  b", 0), ("A b", 0), ("", 0)]
        {
            assert_eq!(score("a b", &["c", "d "], answer).accepted, right, "{answer:?}");
        }
        assert_eq!(score("a", &["b"], "b").any_reference(), Some(1.0));
    }

    #[test]
    fn rows_without_references_are_not_counted_among_those_with() {
        let mut score = score("a", &["b"], "c");
        score.add(&Row::new("", "a"), "a");
        assert_eq!((score.any_reference(), score.rows), (Some(0.0), 2));
        assert_eq!(TextScore::default().any_reference(), None);
    }

    #[test]
    fn first_and_last_words() {
        for (completion, answer, first, last) in [
            ("find . -name x", " find /", 1, 0),
            ("find .", "finding .", 0, 1),
            ("alarm_set(time=\"7\")", "alarm_set(time=\"8\")", 1, 0),
            ("alarm_set()", "alarm()", 0, 0),
            ("3 + 4\n#### 7", "so it is\n#### 7\n", 0, 1),
            ("7", "17", 0, 0),
            ("7", "", 0, 0),
            ("", " ", 1, 1),
        ] {
            let found = score(completion, &[], answer);
            assert_eq!((found.first_words, found.last_words), (first, last), "{answer:?}");
        }
    }
}
