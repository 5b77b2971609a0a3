use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Progress bar on standard error over `total` items; hidden if standard error is not a terminal, or by `--quiet`.
pub(crate) fn bar(total: u64, what: &str) -> ProgressBar {
    styled(total, what, "{prefix:>10} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}")
}

/// Progress bar for the bytes of a file.
pub(crate) fn bytes(total: u64, file: &str) -> ProgressBar {
    let counts = "{binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}";
    styled(total, file, &format!("{{prefix:>10}} {{wide_bar}} {counts}"))
}

fn styled(total: u64, what: &str, style: &str) -> ProgressBar {
    if output::is_quiet() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
