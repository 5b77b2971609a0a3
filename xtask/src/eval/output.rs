//! `cargo xtask eval output`: the README's first output, as the binary prints it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::binary::Binary;
use super::write_readme;

const RECORD: &str = "results/customize.txt";
const MARK: &str = "output:customize";

/// Arguments of `cargo xtask eval output`.
#[derive(Args)]
pub(crate) struct OutputArgs {
    /// Compare this output of the README's first command with the recorded one instead: all but the numbers must be equal.
    #[arg(long, value_name = "FILE", conflicts_with = "text_only")]
    check: Option<PathBuf>,
    /// Write the README's text from the record; run nothing.
    #[arg(long)]
    text_only: bool,
}

/// Runs the README's first command in an empty folder, records its output and writes it into the README; or compares.
pub(crate) fn run(args: &OutputArgs, root: &Path) -> Result<()> {
    if let Some(path) = &args.check {
        let found = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        return compare(&found, &recorded(root)?);
    }
    if !args.text_only {
        let binary = Binary::build(root)?;
        let folder = root.join("target/readme-output");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(binary.path());
        command.arg("customize").current_dir(&folder).stderr(Stdio::inherit());
        let output = command.output().context("cannot run litemoe")?;
        if !output.status.success() {
            bail!("litemoe customize failed");
        }
        fs::write(root.join(RECORD), output.stdout).context(RECORD)?;
    }
    write_readme(root, MARK, &block(&recorded(root)?))
}

fn recorded(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(RECORD)).context(RECORD)
}

fn block(text: &str) -> String {
    format!("```text\n{text}```\n")
}

/// The first line that differs in more than its numbers is an error.
fn compare(found: &str, expected: &str) -> Result<()> {
    let [found, expected] = [found, expected].map(|text| text.lines().filter_map(shape));
    let (found, expected): (Vec<_>, Vec<_>) = (found.collect(), expected.collect());
    // What cargo says of the build comes first.
    let start = found.len().saturating_sub(expected.len());
    match found[start..].iter().zip(&expected).find(|(found, expected)| found != expected) {
        None if found.len() >= expected.len() => Ok(()),
        None => bail!("the output has {} lines instead of {}", found.len(), expected.len()),
        Some((found, expected)) => bail!("the output says\n  {found}\ninstead of\n  {expected}"),
    }
}

/// A line with `#` for every number and one space for several. `None` for a rule of a table, and for the sentence on the
/// routing that was chosen, which rounding may decide.
fn shape(line: &str) -> Option<String> {
    if line.chars().all(|c| "─═".contains(c)) || line.starts_with("mounted with ") {
        return None;
    }
    let mut shape = String::new();
    for c in line.chars() {
        let is_number = c.is_ascii_digit() || c == '.' && shape.ends_with('#');
        let repeats = is_number && shape.ends_with('#') || c == ' ' && shape.ends_with(' ');
        match is_number {
            _ if repeats => {}
            true => shape.push('#'),
            false => shape.push(c),
        }
    }
    Some(shape.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{README, marked};
    use super::*;

    #[test]
    fn the_readme_shows_the_recorded_output() {
        let root = crate::workspace_root();
        let readme = fs::read_to_string(root.join(README)).unwrap();
        let expected = block(&recorded(&root).unwrap());
        assert_eq!(
            marked::find(&readme, MARK).unwrap(),
            expected,
            "run `cargo xtask eval output --text-only`"
        );
    }

    #[test]
    fn numbers_may_differ_and_nothing_else() {
        let expected = "home: 300 rows\n═══\n proxy   94.3 %   75 s\n";
        compare("   Compiling x v1.2\nhome: 299 rows\n═════\n proxy  9 %   107 s \n", expected)
            .unwrap();
        compare("home: 300 rows\nmounted with 7\n proxy 9 % 1 s\n", expected).unwrap();
        for other in ["home: 300 rows\n proxies 94.3 % 75 s\n", "home: 300 rows\n", ""] {
            assert!(compare(other, expected).is_err(), "{other:?}");
        }
    }
}
