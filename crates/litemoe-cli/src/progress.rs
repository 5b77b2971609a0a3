//! Progress on standard error: bars, plain lines or JSON events.

use std::io::{self, IsTerminal};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::events::{self, Count, Event};
use crate::output;

/// Least time between two events, or two plain lines, of an activity that is not done.
const EVENT_PAUSE: Duration = Duration::from_secs(1);
const LINE_PAUSE: Duration = Duration::from_secs(60);

/// Form of the progress on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars if standard error is a terminal and there is no -v, else plain.
    #[default]
    Auto,
    /// Progress bars, on a terminal alone.
    Bar,
    /// A line for each validation, for each activity when it is done, and for each minute of it.
    Plain,
    /// Events as JSON objects, one per line; notes and errors too.
    Json,
    /// No progress; notes remain.
    None,
}

/// Set by [`set_mode`].
static MODE: OnceLock<ProgressMode> = OnceLock::new();

/// Sets the form of progress of this process; `is_verbose`: standard error has log lines too.
pub(crate) fn set_mode(mode: ProgressMode, is_verbose: bool) {
    let mode = match mode {
        ProgressMode::Auto if io::stderr().is_terminal() && !is_verbose => ProgressMode::Bar,
        ProgressMode::Auto => ProgressMode::Plain,
        given => given,
    };
    if mode == ProgressMode::Json {
        events::turn_on();
    }
    let _ = MODE.set(mode);
}

/// Name of the form, for child processes.
pub(crate) fn mode_name() -> String {
    mode().to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn mode() -> ProgressMode {
    match output::is_quiet() {
        true => ProgressMode::None,
        false => MODE.get().copied().unwrap_or(ProgressMode::None),
    }
}

/// Progress of one activity.
pub(crate) struct Progress {
    activity: &'static str,
    file: Option<String>,
    unit: &'static str,
    total: u64,
    mode: ProgressMode,
    start: Instant,
    state: Mutex<State>,
    /// Hidden in other modes.
    bar: ProgressBar,
}

struct State {
    done: u64,
    told: Instant,
    /// Count of the last plain line.
    line_at: Option<u64>,
    loss: Option<f64>,
    detail: String,
}

/// Begins an activity over `total` units.
pub(crate) fn begin(activity: &'static str, total: u64, unit: &'static str) -> Progress {
    let style = "{prefix:>10} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
    Progress::new(activity, None, total, unit, style)
}

/// Begins fetching the bytes of a file.
#[cfg(feature = "hub")]
pub(crate) fn fetching(file: &str, total: u64) -> Progress {
    let style = "{prefix:>10} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}";
    Progress::new("fetching", Some(file.to_owned()), total, "bytes", style)
}

impl Progress {
    fn new(
        activity: &'static str,
        file: Option<String>,
        total: u64,
        unit: &'static str,
        style: &str,
    ) -> Self {
        let (mode, start) = (mode(), Instant::now());
        let bar = match mode {
            ProgressMode::Bar => bar(total, file.as_deref().unwrap_or(activity), style),
            _ => ProgressBar::hidden(),
        };
        let state =
            State { done: 0, told: start, line_at: None, loss: None, detail: String::new() };
        let progress =
            Self { activity, file, unit, total, mode, start, state: Mutex::new(state), bar };
        if mode == ProgressMode::Json {
            events::emit(&Event::Begin(progress.count(0, None)));
        }
        progress
    }

    /// Sets how many units are done.
    pub(crate) fn set(&self, done: u64) {
        self.update(|state| state.done = done);
    }

    /// Counts units that are done.
    pub(crate) fn add(&self, more: u64) {
        self.update(|state| state.done += more);
    }

    /// Sets what a bar and plain lines tell besides the count.
    pub(crate) fn detail(&self, detail: String) {
        self.bar.set_message(detail.clone());
        self.state().detail = detail;
    }

    /// A training step is done.
    pub(crate) fn stepped(&self, step: u64, loss: f64) {
        self.update(|state| (state.done, state.loss) = (step, Some(loss)));
    }

    /// The adapter was validated after the last step.
    pub(crate) fn validated(&self, validation_loss: f64, validation_accuracy: f64) {
        let mut state = self.state();
        state.told = Instant::now();
        match self.mode {
            ProgressMode::Json => events::emit(&Event::Validation {
                count: self.count(state.done, state.loss),
                validation_loss,
                validation_accuracy,
            }),
            ProgressMode::Plain => self.print(&mut state),
            _ => {}
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        self.bar.set_position(state.done);
        tracing::debug!(done = state.done, total = self.total, "{}", self.activity);
        let pause = match self.mode {
            ProgressMode::Json => EVENT_PAUSE,
            ProgressMode::Plain => LINE_PAUSE,
            _ => return,
        };
        if state.told.elapsed() < pause || state.done >= self.total {
            return;
        }
        state.told = Instant::now();
        match self.mode {
            ProgressMode::Json => {
                events::emit(&Event::Progress(self.count(state.done, state.loss)));
            }
            _ => self.print(&mut state),
        }
    }

    /// Ends the activity: its bar is removed.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
        let mut state = self.state();
        match self.mode {
            ProgressMode::Json => events::emit(&Event::End(self.count(state.done, state.loss))),
            ProgressMode::Plain if state.line_at != Some(state.done) => self.print(&mut state),
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, done: u64, loss: Option<f64>) -> Count<'_> {
        Count {
            activity: self.activity,
            file: self.file.as_deref(),
            done,
            total: self.total,
            unit: self.unit,
            elapsed: self.start.elapsed().as_secs_f64(),
            loss,
        }
    }

    /// Prints a plain line.
    fn print(&self, state: &mut State) {
        state.line_at = Some(state.done);
        let Self { activity, unit, total, .. } = self;
        let file = self.file.as_deref().map(|file| format!(" {file}")).unwrap_or_default();
        let detail = match state.detail.as_str() {
            "" => String::new(),
            detail => format!(", {detail}"),
        };
        let done = match *unit {
            "bytes" => format!("{} of {}", output::bytes(state.done), output::bytes(*total)),
            unit => format!("{} of {total} {unit}", state.done),
        };
        let time = HumanDuration(self.start.elapsed());
        output::note(&format!("{activity}{file}: {done}{detail}, {time:#}"));
    }
}

fn bar(total: u64, prefix: &str, style: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(prefix.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
