//! Messages of a job's process without paths of this machine.

use std::path::Path;

/// Maximum characters of a message.
const MAX_CHARS: usize = 1000;

/// Names that replace what apps must not learn.
#[derive(Debug)]
pub(super) struct Hidden {
    /// Texts and what to say for them, the longest first.
    names: Vec<(String, String)>,
}

impl Hidden {
    /// Paths, with what to say for each.
    pub(super) fn new(paths: &[(&Path, &str)]) -> Self {
        let text = |path: &Path| path.display().to_string();
        let mut names: Vec<_> =
            paths.iter().map(|(path, name)| (text(path), (*name).to_owned())).collect();
        names.retain(|(path, _)| !path.is_empty());
        names.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { names }
    }

    /// The message with names for the known paths, and of other absolute paths the last component alone.
    pub(super) fn plain(&self, message: &str) -> String {
        let mut message = message.to_owned();
        for (path, name) in &self.names {
            message = message.replace(path, name);
        }
        let message = last_components(&message);
        match message.char_indices().nth(MAX_CHARS) {
            Some((end, _)) => format!("{} …", &message[..end]),
            None => message,
        }
    }
}

/// The text with the last component of each absolute path of Unix.
fn last_components(text: &str) -> String {
    let is_before = |c: char| c.is_whitespace() || "\"'`([={,:".contains(c);
    let is_after = |c: char| c.is_whitespace() || "\"'`)]},:;".contains(c);
    let (mut plain, mut rest, mut before) = (String::new(), text, ' ');
    while let Some(c) = rest.chars().next() {
        if c == '/' && is_before(before) {
            let end = rest.find(is_after).unwrap_or(rest.len());
            let path = &rest[..end];
            plain += path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            (rest, before) = (&rest[end..], c);
            continue;
        }
        plain.push(c);
        (rest, before) = (&rest[c.len_utf8()..], c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths_have_names_and_others_their_last_component() {
        let hidden = Hidden::new(&[
            (Path::new("/srv/models/m"), "the model"),
            (Path::new("data/train.jsonl"), "training_file"),
            (Path::new("/srv/models"), "models"),
        ]);
        for (message, plain) in [
            ("data/train.jsonl, line 3: no prompt", "training_file, line 3: no prompt"),
            ("/srv/models/m has no config", "the model has no config"),
            ("cannot read /etc/x/y.json: denied", "cannot read y.json: denied"),
            ("`/srv/data/apps/é.jsonl`, line 1", "`é.jsonl`, line 1"),
            ("a/b and 1/2 stay", "a/b and 1/2 stay"),
            ("/", ""),
        ] {
            assert_eq!(hidden.plain(message), plain, "{message}");
        }
        assert_eq!(hidden.plain(&"é".repeat(2000)).chars().count(), MAX_CHARS + 2);
    }
}
