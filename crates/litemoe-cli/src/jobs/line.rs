use serde::Deserialize;

/// A line of the standard error of `customize --progress json`, as far as jobs use it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Line {
    Note {
        message: String,
    },
    Error {
        message: String,
        #[serde(default)]
        no_room: bool,
    },
    StageBegin {
        stage: String,
        about: String,
    },
    StageEnd {
        stage: String,
        skipped: bool,
        elapsed: f64,
    },
    Validation {
        done: u64,
        total: u64,
        loss: Option<f64>,
        validation_loss: Option<f64>,
        validation_accuracy: Option<f64>,
    },
    /// Progress, and events of later versions.
    #[serde(other)]
    Other,
}

impl Line {
    /// Parses a line; `None` if it is no event, such as a line of the log.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_other_lines_are_not() {
        let line = r#"{"event":"validation","activity":"tuning","done":50,"total":300,"unit":"steps","elapsed":4.5,"loss":0.25,"validation_loss":0.5,"validation_accuracy":null,"app":"job","stage":"tune"}"#;
        let validation = Line::Validation {
            done: 50,
            total: 300,
            loss: Some(0.25),
            validation_loss: Some(0.5),
            validation_accuracy: None,
        };
        assert_eq!(Line::parse(line), Some(validation));
        let line = r#"{"event":"error","message":"no rows","stage":"customize"}"#;
        assert_eq!(
            Line::parse(line),
            Some(Line::Error { message: "no rows".to_owned(), no_room: false })
        );
        for other in [r#"{"event":"begin","activity":"x"}"#, r#"{"event":"later","x":[1]}"#] {
            assert_eq!(Line::parse(other), Some(Line::Other), "{other}");
        }
        for none in ["", "memory allocation of 9 bytes failed", "{", "1", r#"{"message":"x"}"#] {
            assert_eq!(Line::parse(none), None, "{none}");
        }
    }
}
