use std::env;
use std::io::{self, IsTerminal};

use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Environment variables with the log's filter: the first that is set.
const FILTERS: [&str; 2] = ["LITEMOE_LOG", "RUST_LOG"];

/// Filter of the log by default: errors, and the requests to the server.
const DEFAULT: &str = "error,litemoe_server=info";

/// Begins the log on standard error; the guard writes the last lines when it is dropped.
///
/// A thread of its own writes the lines. If the reader of standard error is gone or does not read, lines are dropped, and
/// nothing else waits or fails.
pub(crate) fn begin() -> WorkerGuard {
    let filter = FILTERS.iter().find_map(|name| env::var(name).ok());
    let (writer, guard) = NonBlocking::new(io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter.as_deref().unwrap_or(DEFAULT)))
        .with_writer(writer)
        .with_ansi(has_colors())
        .log_internal_errors(false)
        .init();
    guard
}

/// Whether standard error is a terminal, and `NO_COLOR` is not set.
fn has_colors() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
