use crate::{Chrf, Row};

/// How close answers come to what their rows want, by the texts alone. Sums over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextScore {
    /// Rows that have references.
    pub referenced_rows: u64,
    /// Those of them whose answer is the completion or a reference, but for white space around it.
    pub accepted: u64,
    /// Rows whose answer begins with the completion's first word. A word ends at white space or an opening parenthesis: a
    /// command's name, or a function's.
    pub first_words: u64,
    /// Rows whose answer ends with the completion's last word, which begins after white space: the result of a calculation.
    pub last_words: u64,
    /// Against the completion and the references.
    pub chrf: Chrf,
    /// All rows.
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

    /// The share of the rows with references whose answer is right, in [0, 1]; none without such rows.
    pub fn any_reference(&self) -> Option<f64> {
        let rows = self.referenced_rows;
        (rows > 0).then(|| self.accepted as f64 / rows as f64)
    }

    /// The share of rows whose first word is right, in [0, 1].
    pub fn first_word(&self) -> f64 {
        self.first_words as f64 / self.rows as f64
    }

    /// The share of rows whose last word is right, in [0, 1].
    pub fn last_word(&self) -> f64 {
        self.last_words as f64 / self.rows as f64
    }
}

impl Row {
    /// The completion and the references.
    pub fn right_answers(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.completion).chain(&self.references).map(String::as_str)
    }

    /// Whether an answer is one of the right ones, but for white space around it.
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
