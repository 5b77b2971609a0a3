use std::path::PathBuf;

use anyhow::bail;

/// Text that `/help` prints.
pub(crate) const HELP: &str = "\
/reset        start a new conversation; keep the system message
/system TEXT  set the system message; without TEXT, remove it
/save FILE    save the conversation as JSON
/quit         quit
Start a message that begins with / with //. End a line with \\ to continue it on the next.";

/// Input of the user: a message or a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Say(String),
    Help,
    Reset,
    System(Option<String>),
    Save(PathBuf),
    Quit,
}

impl Command {
    /// Parses one input; `None` if it is blank.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        let Some(command) = text.strip_prefix('/') else {
            return Ok(Some(Self::Say(text.to_owned())));
        };
        if command.starts_with('/') {
            return Ok(Some(Self::Say(command.to_owned())));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        Ok(Some(match (name, rest.trim()) {
            ("help", "") => Self::Help,
            ("reset", "") => Self::Reset,
            ("system", "") => Self::System(None),
            ("system", text) => Self::System(Some(text.to_owned())),
            ("save", "") => bail!("/save: which file?"),
            ("save", file) => Self::Save(file.into()),
            ("quit", "") => Self::Quit,
            ("help" | "reset" | "quit", _) => bail!("/{name} takes nothing after it"),
            _ => bail!("/{name} is not a command; /help names them"),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_messages_are_told_apart() {
        let say = |text: &str| Some(Command::Say(text.to_owned()));
        for (text, expected) in [
            ("", None),
            ("  \n", None),
            ("hi /quit", say("hi /quit")),
            (" /quit", say(" /quit")),
            ("//quit", say("/quit")),
            ("two\nlines", say("two\nlines")),
            ("/quit ", Some(Command::Quit)),
            ("/help", Some(Command::Help)),
            ("/reset", Some(Command::Reset)),
            ("/system", Some(Command::System(None))),
            ("/system Be\nbrief. ", Some(Command::System(Some("Be\nbrief.".to_owned())))),
            ("/save a b.json", Some(Command::Save("a b.json".into()))),
        ] {
            assert_eq!(Command::parse(text).expect("it is right"), expected, "{text:?}");
        }
        for text in ["/", "/quit now", "/save", "/exit", "/Quit"] {
            assert!(Command::parse(text).is_err(), "{text:?}");
        }
    }
}
