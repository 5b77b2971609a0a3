//! Progress as JSON events, one object per line of standard error (`--progress json`).

use std::io::{self, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::escape::plain;

/// What this process runs.
static SOURCE: OnceLock<Source> = OnceLock::new();

/// Set by [`turn_on`].
static ON: OnceLock<()> = OnceLock::new();

/// Where an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Source {
    /// App of a stage of `customize`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<String>,
    /// Command, or stage of `customize`.
    pub(crate) stage: String,
}

/// An event; times are in seconds.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// Message to the user.
    Note { message: &'a str },
    /// Error that ends the command; `no_room` if it is of a disk that is full or cannot be written to.
    Error {
        message: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        no_room: bool,
    },
    /// A stage of `customize` begins.
    StageBegin { about: &'a str },
    /// A stage of `customize` is done, or skipped because nothing has changed; `elapsed` is that of its run.
    StageEnd { skipped: bool, elapsed: f64 },
    /// An activity begins.
    Begin(Count<'a>),
    /// An activity goes on.
    Progress(Count<'a>),
    /// A validation while tuning.
    Validation {
        #[serde(flatten)]
        count: Count<'a>,
        validation_loss: f64,
        validation_accuracy: f64,
    },
    /// An activity is done.
    End(Count<'a>),
}

/// How far an activity is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Count<'a> {
    pub(crate) activity: &'a str,
    /// File that is fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<&'a str>,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) unit: &'a str,
    /// Time since the activity began.
    pub(crate) elapsed: f64,
    /// Training loss of the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<f64>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    event: &'a Event<'a>,
    #[serde(flatten)]
    source: &'a Source,
}

/// Sets what this process runs.
pub(crate) fn set_source(source: Source) {
    let _ = SOURCE.set(source);
}

/// From now on, standard error gets events.
pub(crate) fn turn_on() {
    let _ = ON.set(());
}

/// Whether [`turn_on`] was called.
pub(crate) fn are_on() -> bool {
    ON.get().is_some()
}

/// Writes an event of this process.
pub(crate) fn emit(event: &Event<'_>) {
    if let Some(source) = SOURCE.get() {
        emit_from(source, event);
    }
}

/// Writes an event; control characters by their escapes.
pub(crate) fn emit_from(source: &Source, event: &Event<'_>) {
    if let Ok(line) = serde_json::to_string(&Line { event, source }) {
        let _ = writeln!(io::stderr().lock(), "{}", plain(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(event: &Event<'_>) -> String {
        let source = Source { app: Some("home".to_owned()), stage: "tune".to_owned() };
        serde_json::to_string(&Line { event, source: &source }).expect("JSON")
    }

    #[test]
    fn events_are_flat_objects() {
        let count = Count {
            activity: "tuning",
            file: None,
            done: 50,
            total: 300,
            unit: "steps",
            elapsed: 4.5,
            loss: Some(0.25),
        };
        let event =
            Event::Validation { count, validation_loss: 0.5, validation_accuracy: f64::NAN };
        assert_eq!(
            json(&event),
            r#"{"event":"validation","activity":"tuning","done":50,"total":300,"unit":"steps","elapsed":4.5,"loss":0.25,"validation_loss":0.5,"validation_accuracy":null,"app":"home","stage":"tune"}"#
        );
        assert_eq!(
            json(&Event::Note { message: "a\n\u{1b}" }),
            r#"{"event":"note","message":"a\n\u001b","app":"home","stage":"tune"}"#
        );
        assert_eq!(
            json(&Event::StageEnd { skipped: true, elapsed: 1.0 }),
            r#"{"event":"stage_end","skipped":true,"elapsed":1.0,"app":"home","stage":"tune"}"#
        );
    }
}
