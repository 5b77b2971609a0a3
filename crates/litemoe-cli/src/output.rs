use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::escape::plain;
use crate::events::{self, Event};

/// Failed write to standard output.
#[derive(Debug)]
struct Unprinted(io::Error);

impl fmt::Display for Unprinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot write to standard output")
    }
}

impl Error for Unprinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Whether a command failed only because the reader of its standard output is gone.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let unprinted = error.downcast_ref::<Unprinted>();
    unprinted.is_some_and(|unprinted| unprinted.0.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints one line to standard output; control characters by their escapes.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    piece(&format!("{}\n", plain(text)))
}

/// Prints text without a newline and flushes; on a terminal, control characters by their escapes.
pub(crate) fn piece(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let text = shown(text, out.is_terminal());
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Unprinted)?)
}

/// Prints a value as one line of JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Set by `--quiet`.
static QUIET: OnceLock<()> = OnceLock::new();

/// From now on, prints no notes and no progress.
pub(crate) fn be_quiet() {
    let _ = QUIET.set(());
}

/// Whether [`be_quiet`] was called.
pub(crate) fn is_quiet() -> bool {
    QUIET.get().is_some()
}

/// Prints a message to standard error, unless `--quiet`; control characters by their escapes.
pub(crate) fn note(text: &str) {
    if is_quiet() {
        return;
    }
    match events::are_on() {
        true => events::emit(&Event::Note { message: text }),
        false => message(text),
    }
}

fn message(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", plain(text));
}

/// Prints an error and its chain of causes to standard error, each text once; control characters by their escapes.
pub(crate) fn error(error: &anyhow::Error) {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            said = if said.is_empty() { cause } else { format!("{said}: {cause}") };
        }
    }
    match events::are_on() {
        true => events::emit(&Event::Error { message: &said, no_room: is_of_full_disk(error) }),
        false => message(&format!("error: {said}")),
    }
}

/// Whether an error is of a disk that is full or cannot be written to.
fn is_of_full_disk(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    let mut kinds = causes.map(io::Error::kind);
    kinds
        .any(|kind| matches!(kind, StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem))
}

/// Text as it is, or as a terminal shows it.
fn shown(text: &str, on_terminal: bool) -> Cow<'_, str> {
    if on_terminal { plain(text) } else { text.into() }
}

/// A number with what it counts, in singular or plural.
pub(crate) fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Human-readable number of bytes, in binary units.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Human-readable time, from one second to hours.
pub(crate) fn seconds(count: f64) -> String {
    match count {
        ..1.0 => "1 s".to_owned(),
        ..100.0 => format!("{count:.0} s"),
        ..6000.0 => format!("{:.0} min", count / 60.0),
        _ => format!("{:.1} h", count / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_plain_on_a_terminal_and_unchanged_in_a_pipe() {
        let answer = "a\tb\né \u{1b}]0;pwn\u{7}\u{9b}2J";
        assert_eq!(shown(answer, true), "a\tb\né \\u001b]0;pwn\\u0007\\u009b2J");
        assert_eq!(shown(answer, false), answer);
        assert_eq!(shown("é\n", true), "é\n");
    }
}
