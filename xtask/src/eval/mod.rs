//! `cargo xtask eval`: runs the binary on apps, records its output, and writes the README's tables from the record.
//! This file is `eval loop`.

mod apps;
mod binary;
mod choices;
mod marked;
mod noise;
mod output;
mod record;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use apps::{APPS, EMBEDDED, HOME, SEEDED, SEEN};
pub(crate) use binary::Binary;
use binary::Work;
pub(crate) use choices::{ChoicesArgs, run as run_choices};
pub(crate) use noise::{NoiseArgs, run as run_noise};
pub(crate) use output::{OutputArgs, run as run_output};
pub(crate) use record::commit;
use record::{Record, Source};

const RECORD: &str = "results/loop.json";
const README: &str = "README.md";
const MARK: &str = "results:loop";

/// Arguments of `cargo xtask eval loop`.
#[derive(Args)]
pub(crate) struct LoopArgs {
    /// A folder of further apps, each a folder with train, validation and test.jsonl and meta.json (source, licence).
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Apps to run [default: home and those of banking, reviews, terminal, assistant, tables, phrasebook that are there].
    #[arg(long, value_name = "APP", value_delimiter = ',')]
    apps: Option<Vec<String>>,
    /// A folder of further foundations, each a Hugging Face directory.
    #[arg(long, value_name = "DIR")]
    foundations: Option<PathBuf>,
    /// Byte budgets, as shares of the expert bytes.
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "0.33,0.17")]
    budgets: Vec<String>,
    /// Number of seeds for home and banking.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: u64,
    /// Output folder of the loop; unchanged stages are not rerun.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out/eval")]
    out: PathBuf,
    /// Write the README's table from the record; run nothing.
    #[arg(long, conflicts_with_all = ["data", "apps", "foundations"])]
    table_only: bool,
}

/// Runs and records the loop on every app unless only the table is requested, and writes the table.
pub(crate) fn run(args: &LoopArgs, root: &Path) -> Result<()> {
    if !args.table_only {
        let record = measure(args, root)?;
        write_record(root, RECORD, &record)?;
    }
    write_readme(root, MARK, &recorded_table(root)?)
}

/// A foundation's name and folder.
type Named = (String, PathBuf);

fn measure(args: &LoopArgs, root: &Path) -> Result<Record> {
    let binary = Binary::build(root)?;
    let mut record = Record::new(root)?;
    let apps = apps(args, root)?;
    for (name, foundation) in foundations(args, root)? {
        for (app, data) in &apps {
            for (budget, seed) in settings(args, &name, app) {
                let report =
                    cell(&binary, &args.out, (&name, &foundation), (app, data), &budget, seed)?;
                let source = (app != HOME).then(|| Source::read(data)).transpose()?;
                record.add(&name, report, source.as_ref())?;
            }
        }
    }
    Ok(record)
}

fn cell(
    binary: &Binary,
    out: &Path,
    (name, foundation): (&str, &Path),
    (app, data): (&str, &Path),
    budget: &str,
    seed: u64,
) -> Result<serde_json::Value> {
    // Budgets share a folder, so that common stages run once.
    let work = Work {
        out: out.join(name).join(format!("seed-{seed}")),
        foundation,
        app,
        data,
        more: vec![format!("--budget={budget}"), format!("--seed={seed}")],
    };
    let saved = out.join("printed").join(format!("{name}-{app}-{budget}-{seed}.json"));
    binary.customize(&work, &saved)
}

/// Budgets and seeds of an app: every budget, or only the first for apps the foundations were trained on; and at the
/// first budget further seeds for the apps of [`SEEDED`].
fn settings(args: &LoopArgs, foundation: &str, app: &str) -> Vec<(String, u64)> {
    let n_budgets = if SEEN.contains(&app) { 1 } else { args.budgets.len() };
    let budgets = args.budgets.iter().take(n_budgets).map(|budget| (budget.clone(), 0));
    let seeded = foundation == EMBEDDED && SEEDED.contains(&app);
    let seeds = if seeded { 1..args.seeds } else { 1..1 };
    let first = args.budgets.first().cloned().unwrap_or_default();
    budgets.chain(seeds.map(|seed| (first.clone(), seed))).collect()
}

/// The foundations to run: the embedded one first.
fn foundations(args: &LoopArgs, root: &Path) -> Result<Vec<Named>> {
    let mut found = vec![(EMBEDDED.to_owned(), root.join("fixtures/foundation"))];
    if let Some(dir) = &args.foundations {
        let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
        let mut more = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.join("config.json").is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                more.push((name, path));
            }
        }
        if more.is_empty() {
            bail!("{} has no folder with a config.json", dir.display());
        }
        more.sort();
        found.extend(more);
    }
    Ok(found)
}

/// The apps to run: `home` first.
fn apps(args: &LoopArgs, root: &Path) -> Result<Vec<Named>> {
    let folder = |app: &str| match (app, &args.data) {
        (HOME, _) => Ok(root.join("fixtures/apps/home")),
        (_, Some(data)) => Ok(data.join(app)),
        (app, None) => bail!("where {app} is, --data says"),
    };
    if let Some(apps) = &args.apps {
        return apps.iter().map(|app| Ok((app.clone(), folder(app)?))).collect();
    }
    let mut found = vec![(HOME.to_owned(), folder(HOME)?)];
    if let Some(data) = &args.data {
        let there = |app: &&&str| data.join(app).join("test.jsonl").is_file();
        let more = APPS.iter().filter(there).map(|app| ((*app).to_owned(), data.join(app)));
        found.extend(more);
        if found.len() == 1 {
            bail!("{} has none of the apps {}", data.display(), APPS.join(", "));
        }
    }
    Ok(found)
}

/// Replaces the text between two marks of the README.
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
    Ok(table::render(&record, &record.cells()?))
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
