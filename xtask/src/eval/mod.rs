//! `cargo xtask eval`: runs the binary on apps, records what it printed, writes the README's tables from that. This file is
//! `eval loop`.

mod binary;
mod choices;
mod marked;
mod record;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use binary::Binary;
pub(crate) use choices::{ChoicesArgs, run as run_choices};
use record::{Record, Source};

const RECORD: &str = "results/loop.json";
const README: &str = "README.md";
const MARK: &str = "results:loop";

/// The app the binary embeds.
const HOME: &str = "home";

/// Apps of the table below `--data`, in its order.
const APPS: &[&str] = &["banking", "reviews", "terminal", "assistant"];

/// What `cargo xtask eval loop` is asked.
#[derive(Args)]
pub(crate) struct LoopArgs {
    /// A folder of more apps, each a folder with train, validation and test.jsonl and meta.json (source, licence).
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Apps of the folder to run after `home` [default: those of banking, reviews, terminal, assistant that are there].
    #[arg(long, value_name = "APP", value_delimiter = ',', requires = "data")]
    apps: Option<Vec<String>>,
    /// Folder for what the loop makes; stages that are there and unchanged are not run again.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out/eval")]
    out: PathBuf,
    /// Write the README's table from the record; run nothing.
    #[arg(long, conflicts_with_all = ["data", "apps"])]
    table_only: bool,
}

/// Records the loop on every app, unless only the table is asked for, and writes the table.
pub(crate) fn run(args: &LoopArgs, root: &Path) -> Result<()> {
    if !args.table_only {
        let record = measure(args, root)?;
        write_record(root, RECORD, &record)?;
    }
    write_table(root)
}

fn measure(args: &LoopArgs, root: &Path) -> Result<Record> {
    let binary = Binary::build(root)?;
    let mut record = Record::new(root)?;
    record.add(binary.customize(&args.out, None, &[])?, None)?;
    for app in apps(args)? {
        let folder = args.data.as_deref().unwrap_or(Path::new("")).join(&app);
        let source = Source::read(&folder)?;
        record.add(binary.customize(&args.out, Some((&app, &folder)), &[])?, Some(&source))?;
    }
    Ok(record)
}

/// The apps to run after `home`.
fn apps(args: &LoopArgs) -> Result<Vec<String>> {
    let Some(data) = &args.data else { return Ok(vec![]) };
    if let Some(apps) = &args.apps {
        return Ok(apps.iter().filter(|app| *app != HOME).cloned().collect());
    }
    let there = |app: &&&str| data.join(app).join("test.jsonl").is_file();
    let apps: Vec<_> = APPS.iter().filter(there).map(|app| (*app).to_owned()).collect();
    if apps.is_empty() {
        bail!("{} has none of the apps {}", data.display(), APPS.join(", "));
    }
    Ok(apps)
}

fn write_table(root: &Path) -> Result<()> {
    write_readme(root, MARK, &recorded_table(root)?)
}

/// Puts a text between two marks of the README.
fn write_readme(root: &Path, mark: &str, text: &str) -> Result<()> {
    let path = root.join(README);
    let readme = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    fs::write(&path, marked::replace(&readme, mark, text)?)?;
    Ok(())
}

/// Writes a record below `results`.
fn write_record(root: &Path, name: &str, record: &impl serde::Serialize) -> Result<()> {
    let path = root.join(name);
    fs::create_dir_all(root.join("results"))?;
    let text = serde_json::to_string_pretty(record)? + "\n";
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn recorded_table(root: &Path) -> Result<String> {
    let record = Record::read(&root.join(RECORD))?;
    Ok(table::render(&record, &record.apps()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_recorded_results() {
        let root = crate::workspace_root();
        let readme = fs::read_to_string(root.join(README)).unwrap();
        assert_eq!(
            marked::find(&readme, MARK).unwrap(),
            recorded_table(&root).unwrap(),
            "run `cargo xtask eval loop --table-only`"
        );
    }
}
