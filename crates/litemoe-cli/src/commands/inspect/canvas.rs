use std::env;

use console::Term;

/// Columns where neither the terminal nor `COLUMNS` says how many there are.
const USUAL_COLUMNS: usize = 80;

/// Most columns before an expert map.
const MARGIN: usize = 30;

/// Where expert maps are drawn: character set and width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Canvas {
    /// Whether cells are Unicode blocks; else ASCII.
    pub(super) blocks: bool,
    pub(super) columns: usize,
}

impl Canvas {
    /// Canvas of standard output. Blocks need a UTF-8 locale.
    pub(super) fn of_stdout(ascii: bool) -> Self {
        let number = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
        let terminal = || Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        let columns = number.or_else(terminal).unwrap_or(USUAL_COLUMNS);
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| env::var(name).unwrap_or_default());
        let locale = locale.into_iter().find(|locale| !locale.is_empty());
        Self { blocks: !ascii && is_utf8(locale.as_deref()), columns }
    }

    /// Lines of a map: the margin, then the cells, wrapped below each other. Long maps break after multiples of 8.
    pub(super) fn lines(self, margin: &str, cells: &str) -> Vec<String> {
        let cells: Vec<char> = cells.chars().collect();
        let room = self.columns.saturating_sub(MARGIN).max(8);
        let width = if cells.len() <= room { room } else { room / 8 * 8 };
        let runs = cells.chunks(width).enumerate();
        let line = |(run, cells): (usize, &[char])| {
            let margin = if run == 0 { margin } else { "" };
            format!("{margin:<MARGIN$}{}", cells.iter().collect::<String>())
        };
        runs.map(line).collect()
    }

    /// Cell of a share, given the mean share of the layer.
    pub(super) fn shade(self, share: f64, mean: f64) -> char {
        let times = share / mean;
        if self.blocks {
            return match times {
                _ if share <= 0.0 => '·',
                times if times < 0.5 => '░',
                times if times < 1.0 => '▒',
                times if times < 2.0 => '▓',
                _ => '█',
            };
        }
        match (2.0 * times).floor() {
            _ if share <= 0.0 => '.',
            halves if halves >= 9.0 => '9',
            halves => char::from(b'0' + halves as u8),
        }
    }

    /// What the shades mean.
    pub(super) fn shades(self) -> &'static str {
        match self.blocks {
            true => {
                "one cell per expert: · 0, ░ below ½, ▒ below 1, ▓ below 2, █ from 2 times the layer's mean"
            }
            false => {
                "one digit per expert: halves of the layer's mean, 9 from 4.5 times the mean; . is 0"
            }
        }
    }

    /// The cell for Unicode, or the one for ASCII.
    pub(super) fn pick(self, block: char, ascii: char) -> char {
        if self.blocks { block } else { ascii }
    }
}

/// Whether a locale's name says UTF-8; without one it is C.
fn is_utf8(locale: Option<&str>) -> bool {
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    cfg!(windows) || locale.ends_with("utf-8") || locale.ends_with("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_wrap_in_the_columns_left() {
        let canvas = Canvas { blocks: false, columns: MARGIN + 19 };
        let lines = canvas.lines("layer 0", &"0123456789".repeat(2));
        assert_eq!(
            lines,
            [format!("{:<30}0123456789012345", "layer 0"), format!("{:<30}6789", "")]
        );
        let fits = canvas.lines("layer 0", &"0".repeat(19));
        assert_eq!(fits, [format!("{:<30}{}", "layer 0", "0".repeat(19))]);
        let narrow = Canvas { blocks: false, columns: 1 };
        assert_eq!(narrow.lines("", "0123456789").len(), 2);
    }

    #[test]
    fn shades_count_in_means() {
        let blocks = Canvas { blocks: true, columns: 80 };
        let ascii = Canvas { blocks: false, columns: 80 };
        let shares = [0.0, 0.1, 0.124, 0.126, 0.25, 0.26, 0.5, 1.0, 3.0];
        let drawn = |canvas: Canvas| {
            shares.map(|share| canvas.shade(share, 0.25)).iter().collect::<String>()
        };
        assert_eq!(drawn(blocks), "·░░▒▓▓███");
        assert_eq!(drawn(ascii), ".00122489");
    }

    #[test]
    fn only_a_utf8_locale_has_blocks() {
        for (locale, expected) in
            [(Some("en_US.UTF-8"), true), (Some("C.utf8"), true), (Some("C"), false), (None, false)]
        {
            assert_eq!(is_utf8(locale), expected || cfg!(windows), "{locale:?}");
        }
    }
}
