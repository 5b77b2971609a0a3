use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use serde::Serialize;

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

/// Prints one line to standard output.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    piece(&format!("{text}\n"))
}

/// Prints text without a newline and flushes.
pub(crate) fn piece(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
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

/// Prints a message to standard error, unless `--quiet`.
pub(crate) fn note(text: &str) {
    if !is_quiet() {
        message(text);
    }
}

fn message(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error and its chain of causes to standard error, each text once.
pub(crate) fn error(error: &anyhow::Error) {
    let mut said = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            said = if said.is_empty() { cause } else { format!("{said}: {cause}") };
        }
    }
    message(&format!("error: {said}"));
}

/// Human-readable number of bytes, in binary units.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
