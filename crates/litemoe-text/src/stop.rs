/// Stop-string scanner: passes text up to the first stop string, however the text is split into pieces. Text that may
/// be the start of a stop string is held back.
#[derive(Debug)]
pub(crate) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

/// Text passed by the scanner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) text: String,
    /// Whether a stop string was found: nothing passes after it.
    pub(crate) stopped: bool,
}

impl StopScanner {
    /// Stop strings must not be empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    pub(crate) fn stops(&self) -> &[String] {
        &self.stops
    }

    pub(crate) fn push(&mut self, piece: &str) -> Passed {
        self.held += piece;
        if let Some(start) = self.first_stop() {
            self.held.truncate(start);
            return Passed { text: std::mem::take(&mut self.held), stopped: true };
        }
        let rest = self.held.split_off(self.held.len() - self.n_undecided());
        Passed { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The text held back, if there is no more text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Start of the stop string that is completed first.
    fn first_stop(&self) -> Option<usize> {
        let found = |stop: &String| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at));
        self.stops.iter().filter_map(found).min().map(|(_, start)| start)
    }

    /// Number of bytes at the end that may be the start of a stop string.
    fn n_undecided(&self) -> usize {
        let begins = |stop: &String| {
            let ends = stop.char_indices().map(|(end, _)| end);
            ends.rev().find(|&end| self.held.ends_with(&stop[..end])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(stops: &[String], pieces: &[String]) -> Passed {
        let mut scanner = StopScanner::new(stops.to_vec());
        let mut text = String::new();
        for piece in pieces {
            let passed = scanner.push(piece);
            text += &passed.text;
            if passed.stopped {
                return Passed { text, stopped: true };
            }
        }
        text += &scanner.finish();
        Passed { text, stopped: false }
    }

    /// Reference implementation: letter by letter on the whole text.
    fn expected(stops: &[String], whole: &str) -> Passed {
        let ends = whole.char_indices().map(|(at, letter)| at + letter.len_utf8());
        for so_far in ends.map(|end| &whole[..end]) {
            let cut = |stop: &String| so_far.strip_suffix(stop.as_str());
            if let Some(text) = stops.iter().filter_map(cut).min_by_key(|text| text.len()) {
                return Passed { text: text.to_owned(), stopped: true };
            }
        }
        Passed { text: whole.to_owned(), stopped: false }
    }

    proptest! {
        #[test]
        fn stops_do_not_depend_on_the_pieces(
            stops in prop::collection::vec("[abü]{1,4}", 0..4),
            pieces in prop::collection::vec("[abü]{0,3}", 0..12),
        ) {
            prop_assert_eq!(scan(&stops, &pieces), expected(&stops, &pieces.concat()));
        }
    }

    #[test]
    fn text_passes_as_soon_as_it_is_certain() {
        let mut scanner = StopScanner::new(vec!["\n\n".to_owned()]);
        let mut pass = |piece| scanner.push(piece).text;
        assert_eq!(["a", "\n", "b\n", "\nc"].map(&mut pass), ["a", "", "\nb", ""]);
    }
}
