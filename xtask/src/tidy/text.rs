//! Checks the text of source files and documents.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Maximum lines of a source file.
const MAX_LINES: usize = 500;

/// File names that say nothing about the content.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// Words that documents and sources do not use, each with what they use instead.
const BANNED_WORDS: &[(&str, &str)] = &[
    ("beside", "`of`, `for` or `next to`"),
    ("anew", "`again`"),
    ("whoever", "`the caller`"),
    ("heed", "`respect`"),
    ("at hand", "`available`"),
    ("goes back", "`is propagated`"),
];

/// This file, which names them.
const WORD_LIST: &str = "xtask/src/tidy/text.rs";

/// Root folders of absolute paths that exist only on one machine.
const MACHINE_FOLDERS: &[&str] = &["home", "private", "root", "tmp", "Users", "work"];

/// One sentence per file that is too long, has an uninformative name, or contains a path of one machine.
pub(super) fn findings(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in tracked_files(root)?.iter().filter(|file| is_ours(file)) {
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        findings.extend(file_findings(file, &text));
    }
    Ok(findings)
}

/// Tracked files and new files that are not ignored, relative to `root`.
fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .context("cannot run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

fn is_ours(file: &str) -> bool {
    let extension = Path::new(file).extension().and_then(|e| e.to_str());
    file == ".ci/run" || matches!(extension, Some("rs" | "md" | "toml" | "yml" | "sh"))
}

fn file_findings(file: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let n_lines = text.lines().count();
    if file.ends_with(".rs") && n_lines > MAX_LINES {
        findings.push(format!("{file} has {n_lines} lines: split it (at most {MAX_LINES})"));
    }
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        findings.push(format!("{file}: name the file for its main type or verb"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if let Some((word, instead)) = banned_word(line).filter(|_| file != WORD_LIST) {
            findings.push(format!("{file}:{number} says `{word}`: say {instead}"));
        }
        if let Some(folder) = machine_folder(line) {
            findings.push(format!("{file}:{number} names a path of one machine, below /{folder}"));
        }
    }
    findings
}

/// The word of [`BANNED_WORDS`] in the line.
fn banned_word(line: &str) -> Option<&'static (&'static str, &'static str)> {
    let line = line.to_lowercase();
    let is_word = |at: usize, word: &str| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    };
    BANNED_WORDS.iter().find(|(word, _)| line.match_indices(word).any(|(at, _)| is_word(at, word)))
}

/// The folder of [`MACHINE_FOLDERS`] of an absolute path in the line.
fn machine_folder(line: &str) -> Option<&'static str> {
    MACHINE_FOLDERS.iter().copied().find(|folder| {
        let start = format!("/{folder}/");
        line.match_indices(&start).any(|(at, _)| !line[..at].ends_with(in_a_path))
    })
}

/// Whether a character before a slash means that the slash is inside a relative path or a URL.
fn in_a_path(c: char) -> bool {
    c.is_alphanumeric() || "._-/~}{*".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_of_one_machine_are_found_and_relative_ones_are_not() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(machine_folder(&format!("see /{folder}/x")), Some(*folder));
            assert_eq!(machine_folder(&format!("\"/{folder}/x\"")), Some(*folder));
            assert_eq!(machine_folder(&format!("apps/{folder}/x")), None);
            assert_eq!(machine_folder(&format!("https://example.org/{folder}/x")), None);
        }
    }

    #[test]
    fn banned_words_are_found_as_words() {
        for (line, word) in [("the adapter beside W", "beside"), ("Anew.", "anew")] {
            assert_eq!(banned_word(line).map(|(word, _)| *word), Some(word));
            assert_eq!(file_findings("a.md", line).len(), 1);
        }
        assert_eq!(banned_word("besides, renewed; heedless"), None);
    }

    #[test]
    fn a_long_file_and_an_empty_name_each_get_a_sentence() {
        let long = "\n".repeat(MAX_LINES + 1);
        assert_eq!(file_findings("a/b.rs", &long).len(), 1);
        assert_eq!(file_findings("a/utils.rs", "").len(), 1);
        assert!(file_findings("a/b.md", &long).is_empty());
    }
}
