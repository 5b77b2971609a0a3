use std::path::PathBuf;

use anyhow::bail;

/// What there is to say.
pub(crate) const HELP: &str = "\
/reset        forget the conversation, but not the system message
/system TEXT  tell the model this before the conversation; without TEXT, tell it nothing
/save FILE    write the conversation as JSON
/quit         leave
A message that begins with / is written with //, and a line that ends with \\ goes on in the next.";

/// What a user wants.
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
    /// Reads what was typed; `None` when that is nothing.
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
