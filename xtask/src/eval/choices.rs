//! `cargo xtask eval choices`: ablations: the loop with one choice changed at a time, compared with the record of
//! `eval loop`.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::apps::{EMBEDDED, HOME};
use super::binary::{Binary, Work};
use super::record::{self, Record};
use super::table::line;
use super::{write_readme, write_record};

const RECORD: &str = "results/choices.json";
const MARK: &str = "results:choices";

/// Choices to try: arguments of `litemoe customize` that replace defaults. Choices that differ only in a late stage are
/// adjacent, so that earlier stages are not rerun.
const CHOICES: &[&str] = &[
    "",
    "--routing full",
    "--refit none",
    "--refit none --expert-rank 8",
    "--refit full",
    "--expert-rank 1",
    "--expert-rank 2",
    "--expert-rank 8",
    "--targets attention",
    "--targets experts",
    "--hot-experts 0.5",
    "--router-noise 0.5",
    "--router mask",
    "--score reap",
    "--score frequency",
    "--merge litemoe",
];

/// The budget that choices are compared under: the default one.
const BUDGET: &str = "0.33";

/// Arguments of `cargo xtask eval choices`.
#[derive(Args)]
pub(crate) struct ChoicesArgs {
    /// The folder of apps passed to `eval loop`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The apps to try choices on, among those recorded by `eval loop`; all but `home` are in the folder.
    #[arg(long, value_name = "APP", value_delimiter = ',', default_value = HOME)]
    apps: Vec<String>,
    /// Output folder of the loop; unchanged stages are not rerun.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out/choices")]
    out: PathBuf,
    /// Write the README's table from the record; run nothing.
    #[arg(long, conflicts_with = "data")]
    table_only: bool,
}

/// `results/choices.json`
#[derive(Debug, Serialize, Deserialize)]
struct Choices {
    commit: String,
    cpus: usize,
    runs: Vec<Run>,
}

/// One choice on every app.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    /// Arguments of the choice.
    arguments: String,
    apps: Vec<Cell>,
}

/// One choice on one app. Recovery: the share of full tuning's gain in log-perplexity that the mounted adapter keeps,
/// with full tuning from `results/loop.json`, under the defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    app: String,
    mounted_accuracy: f64,
    mounted_perplexity: f64,
    recovery_perplexity: f64,
    adapter_bytes: u64,
}

/// Runs and records every choice unless only the table is requested, and writes the table.
pub(crate) fn run(args: &ChoicesArgs, root: &Path) -> Result<()> {
    if !args.table_only {
        write_record(root, RECORD, &measure(args, root)?)?;
    }
    write_readme(root, MARK, &recorded_table(root)?)
}

fn measure(args: &ChoicesArgs, root: &Path) -> Result<Choices> {
    let recorded = Record::read(&root.join(super::RECORD))?.cells()?;
    let of_app = |app: &String| {
        let found = recorded
            .iter()
            .filter(|cell| cell.budget == BUDGET && cell.seed == 0)
            .find(|cell| (&cell.app, &*cell.foundation_name) == (app, EMBEDDED));
        found.with_context(|| format!("{} has no {app}", super::RECORD))
    };
    let apps: Vec<_> = args.apps.iter().map(of_app).collect::<Result<_>>()?;
    let binary = Binary::build(root)?;
    let cpus = thread::available_parallelism()?.get();
    let mut choices = Choices { commit: record::commit(root)?, cpus, runs: vec![] };
    for &arguments in CHOICES {
        let cell = |app: &&record::Cell| cell(&binary, args, root, app, arguments);
        let apps = apps.iter().map(cell).collect::<Result<_>>()?;
        choices.runs.push(Run { arguments: arguments.to_owned(), apps });
    }
    Ok(choices)
}

fn cell(
    binary: &Binary,
    args: &ChoicesArgs,
    root: &Path,
    app: &record::Cell,
    arguments: &str,
) -> Result<Cell> {
    if arguments.is_empty() {
        // The recorded values of the defaults.
        return Ok(Cell {
            app: app.app.clone(),
            mounted_accuracy: app.mounted.accuracy,
            mounted_perplexity: app.mounted.perplexity,
            recovery_perplexity: app.recovery_perplexity.unwrap_or_default(),
            adapter_bytes: app.adapter_bytes.mounted,
        });
    }
    let home = root.join("fixtures/apps/home");
    let data = match (&args.data, &*app.app) {
        (_, HOME) => home,
        (Some(data), name) => data.join(name),
        (None, name) => bail!("where {name} is, --data says"),
    };
    let mut more = vec!["--no-controls".to_owned(), format!("--budget={}", app.budget)];
    more.extend(arguments.split_whitespace().map(str::to_owned));
    let foundation = root.join("fixtures/foundation");
    let work =
        Work { out: args.out.clone(), foundation: &foundation, app: &app.app, data: &data, more };
    let name = format!("{}{}", app.app, arguments.replace(' ', "_"));
    let report = binary.customize(&work, &args.out.join("printed").join(name + ".json"))?;
    let found = report.pointer("/apps/0").context("the report has no app")?;
    let number = |path: &str| {
        let value = found.pointer(path).and_then(|it| it.as_f64());
        value.with_context(|| format!("the report has no {path}"))
    };
    let foundation = number("/foundation/perplexity")?;
    if foundation != app.foundation.perplexity {
        bail!("{}: another foundation, or other rows, than in {}", app.app, super::RECORD);
    }
    let mounted = number("/mounted/perplexity")?;
    let gain = |model: f64| foundation.ln() - model.ln();
    Ok(Cell {
        app: app.app.clone(),
        mounted_accuracy: number("/mounted/accuracy")?,
        mounted_perplexity: mounted,
        recovery_perplexity: gain(mounted) / gain(app.full.perplexity),
        adapter_bytes: number("/adapter_bytes/mounted")? as u64,
    })
}

fn recorded_table(root: &Path) -> Result<String> {
    let path = root.join(RECORD);
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let choices: Choices =
        serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    Ok(render(&choices))
}

fn render(choices: &Choices) -> String {
    let apps = choices.runs.first().map_or(&[][..], |run| &run.apps[..]);
    let names = apps.iter().map(|cell| cell.app.clone());
    let heading: Vec<String> =
        ["choice".to_owned()].into_iter().chain(names).chain(["adapter, MiB".to_owned()]).collect();
    let rows = choices.runs.iter().map(|run| {
        let name = match run.arguments.as_str() {
            "" => "**the defaults**".to_owned(),
            arguments => format!("`{arguments}`"),
        };
        let cell = |cell: &Cell| {
            let Cell { mounted_accuracy, mounted_perplexity, recovery_perplexity, .. } = cell;
            let percent = 100.0 * mounted_accuracy;
            format!("{percent:.1} / {mounted_perplexity:.3} ({recovery_perplexity:.3})")
        };
        let bytes = run.apps.iter().map(|cell| cell.adapter_bytes).max().unwrap_or(0);
        let mib = format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        let cells: Vec<String> =
            [name].into_iter().chain(run.apps.iter().map(cell)).chain([mib]).collect();
        line(&cells)
    });
    format!(
        "\nMounted: accuracy in percent / perplexity (recovery in log-perplexity, against full tuning under the defaults), with\n\
         one choice changed at a time. Recorded with `cargo xtask eval choices` at `{}` on {} CPUs.\n\n{}|{}\n{}\n",
        choices.commit,
        choices.cpus,
        line(&heading),
        "---|".repeat(heading.len()),
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{README, marked};
    use super::*;

    #[test]
    fn the_readme_shows_the_recorded_choices() {
        let root = crate::workspace_root();
        let readme = fs::read_to_string(root.join(README)).unwrap();
        assert_eq!(
            marked::find(&readme, MARK).unwrap(),
            recorded_table(&root).unwrap(),
            "run `cargo xtask eval choices --table-only`"
        );
    }

    #[test]
    fn a_row_is_a_choice() {
        let cell = |app: &str, recovery_perplexity| Cell {
            app: app.to_owned(),
            mounted_accuracy: 0.5,
            mounted_perplexity: 2.0,
            recovery_perplexity,
            adapter_bytes: 3 << 19,
        };
        let run = |arguments: &str, home, other| Run {
            arguments: arguments.to_owned(),
            apps: vec![cell("home", home), cell("other", other)],
        };
        let runs = vec![run("", 0.8, 0.9), run("--score reap", 1.2, 0.5)];
        let table = render(&Choices { commit: "abc".to_owned(), cpus: 2, runs });
        assert!(
            table.contains("| choice | home | other | adapter, MiB |\n|---|---|---|---|\n"),
            "{table}"
        );
        let row = "| **the defaults** | 50.0 / 2.000 (0.800) | 50.0 / 2.000 (0.900) | 1.5 |\n";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("| `--score reap` | 50.0 / 2.000 (1.200) | "), "{table}");
    }
}
