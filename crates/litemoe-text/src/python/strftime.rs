use std::fmt::Write;

use chrono::{DateTime, Local};
use minijinja::{Error, State};

use crate::python::arguments::invalid;

/// Directives that chrono formats as Python does in the C locale.
const SAME: &str = "aAbBcCdDeFgGhHIjklmMnpPrRsSTtuUVwWxXyY%";

/// Directives with a number that `-` shows without padding.
const UNPADDED: &str = "dHIjmMSy";

/// `datetime.now().strftime(format)`.
pub(super) fn strftime_now(state: &State<'_, '_>, format: &str) -> Result<String, Error> {
    // Two characters of a format become at most about thirty characters.
    state.consume_fuel(format.len() as u64)?;
    formatted(&Local::now(), format)
}

fn formatted(time: &DateTime<Local>, format: &str) -> Result<String, Error> {
    let mut text = String::with_capacity(format.len());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let directive = letters.next();
        let unpadded = (directive == Some('-')).then(|| letters.next()).flatten();
        let written = match (directive, unpadded) {
            (Some('f'), _) => write!(text, "{:06}", time.timestamp_subsec_micros() % 1_000_000),
            // A naive time has no time zone.
            (Some('z' | 'Z'), _) => Ok(()),
            (Some('-'), Some(c)) if UNPADDED.contains(c) => {
                write!(text, "{}", time.format(&format!("%-{c}")))
            }
            (Some(c), _) if SAME.contains(c) => write!(text, "{}", time.format(&format!("%{c}"))),
            _ => Err(std::fmt::Error),
        };
        written.map_err(|_| invalid(&format!("{format:?} is not a format of times")))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use chrono::{Local, TimeZone};

    use super::formatted;

    /// Expected texts: Python 3, `datetime(2026, 3, 4, 5, 6, 7, 89).strftime(…)`.
    #[test]
    fn times_are_those_of_python() {
        let time = Local.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).single().expect("it is a time");
        let time = time + chrono::TimeDelta::microseconds(89);
        for (format, text) in [
            ("é %d %B %Y, %H:%M:%S.%f%%", "é 04 March 2026, 05:06:07.000089%"),
            ("%a %A %b %h %p %P %I %y %C", "Wed Wednesday Mar Mar AM am 05 26 20"),
            ("%-d.%-m.%-y %-H:%-M:%-S %-I %-j", "4.3.26 5:6:7 5 63"),
            ("%e %k %l|%n|%t|%j %u %w %U %W %V %G %g", " 4  5  5|\n|\t|063 3 3 09 09 10 2026 26"),
            (
                "%c|%x|%X|%D|%F|%T|%R|%r|%z%Z",
                "Wed Mar  4 05:06:07 2026|03/04/26|05:06:07|03/04/26|2026-03-04|05:06:07|05:06|05:06:07 AM|",
            ),
        ] {
            assert_eq!(formatted(&time, format).expect("it is a format"), text);
        }
        for format in ["%", "%Q", "%+", "%:z", "%3f", "%-", "%-f", "%_d"] {
            assert!(formatted(&time, format).is_err(), "{format}");
        }
    }
}
