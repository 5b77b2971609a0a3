use std::env;
use std::io::{self, IsTerminal};
use std::panic;
use std::sync::OnceLock;

use clap::ValueEnum;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Environment variables with the log's filter: the first that is set.
const FILTERS: [&str; 2] = ["LITEMOE_LOG", "RUST_LOG"];

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// JSON objects, one per line; notes and errors too.
    Json,
}

/// Number of `-v`.
static VERBOSITY: OnceLock<u8> = OnceLock::new();

/// Number of `-v` of this process, for child processes.
pub(crate) fn verbosity() -> u8 {
    VERBOSITY.get().copied().unwrap_or(0)
}

/// Begins the log on standard error; the guard writes the last lines when it is dropped.
///
/// A thread of its own writes the lines. If the reader of standard error is gone or does not read, lines are dropped, and
/// nothing else waits or fails.
pub(crate) fn begin(verbosity: u8, is_quiet: bool, format: LogFormat) -> WorkerGuard {
    let _ = VERBOSITY.set(verbosity);
    let filter = FILTERS.iter().find_map(|name| env::var(name).ok());
    let filter = filter.as_deref().unwrap_or(default_filter(verbosity, is_quiet));
    let (writer, guard) = NonBlocking::new(io::stderr());
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .with_writer(writer)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(has_colors()).init(),
        LogFormat::Json => {
            log.json().flatten_event(true).with_span_list(false).init();
            panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
        }
    }
    guard
}

/// Filter of the log without a variable: errors and the requests to the server, and with `-v` and `-vv` all crates of
/// this workspace.
fn default_filter(verbosity: u8, is_quiet: bool) -> &'static str {
    match verbosity {
        0 if is_quiet => "error",
        0 => "error,litemoe_server=info",
        1 => "error,litemoe=info",
        _ => "warn,litemoe=debug",
    }
}

/// Whether standard error is a terminal, and `NO_COLOR` is not set.
fn has_colors() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
