//! Shape of a row by its keys.

use super::error::RowError;
use super::shape::RowShape;

/// Maximum number of keys that an error names.
const MAX_KEYS: usize = 20;

impl RowShape {
    /// Shape of a row by its keys. `text` counts only if nothing else fits, because datasets often have it in addition.
    pub(super) fn of(keys: &[&str]) -> Result<Self, RowError> {
        let fits = |shape: &Self| shape.required().iter().all(|key| keys.contains(key));
        let shapes =
            [Self::PromptCompletion, Self::Messages, Self::Instruction, Self::Conversations];
        let shapes: Vec<_> = shapes.into_iter().filter(fits).collect();
        match *shapes {
            [shape] => Ok(shape),
            [] if fits(&Self::Text) => Ok(Self::Text),
            [] => Err(RowError::UnknownShape {
                keys: keys.iter().take(MAX_KEYS).map(|&key| key.to_owned()).collect(),
                advice: advice(keys),
            }),
            _ => Err(RowError::Ambiguous { shapes }),
        }
    }

    /// Checks that a later row has the keys of this shape and of no other. `set` are those that are not null.
    pub(super) fn expect(self, keys: &[&str], set: &[&str]) -> Result<(), RowError> {
        let missing = self.required().iter().find(|key| !keys.contains(key));
        match (Self::of(set), missing) {
            (Ok(found), _) if found.required() != self.required() => {
                Err(RowError::OtherShape { expected: self, found })
            }
            (Err(error @ RowError::Ambiguous { .. }), _) => Err(error),
            (_, Some(&key)) => Err(RowError::Missing { key }),
            (_, None) => Ok(()),
        }
    }
}

/// Names that other datasets give to a prompt.
const PROMPTS: [&str; 7] =
    ["prompt", "question", "query", "instruction", "input", "source", "user"];

/// Names that other datasets give to a completion.
const COMPLETIONS: [&str; 9] = [
    "completion",
    "answer",
    "response",
    "output",
    "target",
    "reply",
    "assistant",
    "chosen",
    "label",
];

/// Names that other datasets give to conversations.
const CHATS: [&str; 4] = ["conversation", "dialog", "dialogue", "chat"];

/// Names that other datasets give to running text.
const TEXTS: [&str; 3] = ["content", "document", "code"];

/// Names of lists that hold the rows.
const WRAPPERS: [&str; 5] = ["data", "rows", "train", "examples", "items"];

/// What to change so that the rows can be read, if the keys suggest it.
fn advice(keys: &[&str]) -> Option<String> {
    let named = |names: &[&'static str]| names.iter().copied().find(|name| keys.contains(name));
    if keys.contains(&"chosen") && keys.contains(&"rejected") {
        return Some(
            "they look like preference pairs; write the chosen side as `prompt` and `completion`"
                .to_owned(),
        );
    }
    match (named(&PROMPTS), named(&COMPLETIONS)) {
        (Some(prompt), Some(completion)) => {
            let pairs = [(prompt, "prompt"), (completion, "completion")];
            let renamed = pairs.iter().filter(|(from, to)| from != to);
            let renamed: Vec<_> = renamed.map(|(from, to)| format!("`{from}` to `{to}`")).collect();
            return Some(format!("rename {}", renamed.join(" and ")));
        }
        (Some(prompt), None) => return Some(format!("there is `{prompt}`, but no `completion`")),
        (None, Some(completion)) => {
            return Some(format!("there is `{completion}`, but no `prompt`"));
        }
        (None, None) => {}
    }
    if let Some(chat) = named(&CHATS) {
        return Some(format!("rename `{chat}` to `messages`"));
    }
    if let Some(text) = named(&TEXTS) {
        return Some(format!("rename `{text}` to `text`"));
    }
    let wrapper = named(&WRAPPERS)?;
    Some(format!("if `{wrapper}` holds the rows, write them as a JSON array without it"))
}
