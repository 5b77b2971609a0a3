use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error that counts `total` of `what`; invisible when standard error is not a terminal.
pub(crate) fn bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = "{prefix:>10} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
