//! `cargo xtask eval choices`: the loop with one choice changed at a time, beside what `eval loop` recorded.

use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::binary::Binary;
use super::record::{self, App, Record};
use super::{HOME, write_readme, write_record};

const RECORD: &str = "results/choices.json";
const MARK: &str = "results:choices";

/// What is tried: arguments of `litemoe customize` in place of its defaults.
const CHOICES: &[&str] = &[
    "",
    "--router-noise 0",
    "--score frequency",
    "--score litemoe",
    "--targets experts",
    "--targets q_proj,k_proj,v_proj,o_proj,experts",
    "--merge litemoe --similarity affinity --router drop_rows",
    "--merge litemoe --similarity affinity --router redirect",
    "--merge litemoe --similarity affinity --router redirect_selected",
    "--merge litemoe --similarity expert_output_gated --router drop_rows",
    "--merge litemoe --similarity expert_output_gated --router redirect",
    "--merge litemoe --similarity expert_output_gated --router redirect_selected",
];

/// What `cargo xtask eval choices` is asked.
#[derive(Args)]
pub(crate) struct ChoicesArgs {
    /// The folder of apps that `eval loop` was given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for what the loop makes; stages that are there and unchanged are not run again.
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
    /// The arguments that make it.
    arguments: String,
    apps: Vec<Cell>,
}

/// One choice on one app: the share of full tuning's gain in log-perplexity that the mounted adapter keeps. Full tuning is
/// that of `results/loop.json`, under the defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cell {
    app: String,
    proxy_perplexity: f64,
    mounted_perplexity: f64,
    recovery_perplexity: f64,
}

/// Records every choice, unless only the table is asked for, and writes the table.
pub(crate) fn run(args: &ChoicesArgs, root: &Path) -> Result<()> {
    if !args.table_only {
        write_record(root, RECORD, &measure(args, root)?)?;
    }
    write_readme(root, MARK, &recorded_table(root)?)
}

fn measure(args: &ChoicesArgs, root: &Path) -> Result<Choices> {
    let recorded = Record::read(&root.join(super::RECORD))?.apps()?;
    // Where full tuning gains next to nothing there is nothing to keep.
    let apps: Vec<&App> = recorded
        .iter()
        .filter(|app| app.recovery_perplexity.is_some())
        .filter(|app| app.app == HOME || args.data.is_some())
        .collect();
    let binary = Binary::build(root)?;
    let cpus = thread::available_parallelism()?.get();
    let mut choices = Choices { commit: record::commit(root)?, cpus, runs: vec![] };
    for (number, &arguments) in CHOICES.iter().enumerate() {
        let out = args.out.join(number.to_string());
        let more: Vec<&str> = arguments.split(' ').filter(|word| !word.is_empty()).collect();
        let more = [&["--no-controls"], &more[..]].concat();
        let cell = |app: &&App| cell(&binary, &out, args.data.as_deref(), app, &more);
        let apps = apps.iter().map(cell).collect::<Result<_>>()?;
        choices.runs.push(Run { arguments: arguments.to_owned(), apps });
    }
    Ok(choices)
}

fn cell(
    binary: &Binary,
    out: &Path,
    data: Option<&Path>,
    app: &App,
    more: &[&str],
) -> Result<Cell> {
    let folder = data.map(|data| data.join(&app.app));
    let folder = folder.as_deref().filter(|_| app.app != HOME);
    let report = binary.customize(out, folder.map(|folder| (app.app.as_str(), folder)), more)?;
    let found = report.pointer("/apps/0").context("the report has no app")?;
    let perplexity = |model: &str| {
        let value = found.pointer(&format!("/{model}/perplexity")).and_then(|it| it.as_f64());
        value.with_context(|| format!("the report has no perplexity of {model}"))
    };
    let foundation = perplexity("foundation")?;
    if foundation != app.foundation.perplexity {
        bail!("{}: another foundation, or other rows, than in {}", app.app, super::RECORD);
    }
    let mounted = perplexity("mounted")?;
    let gain = |model: f64| foundation.ln() - model.ln();
    Ok(Cell {
        app: app.app.clone(),
        proxy_perplexity: perplexity("proxy")?,
        mounted_perplexity: mounted,
        recovery_perplexity: gain(mounted) / gain(app.full.perplexity),
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
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let apps = choices.runs.first().map_or(&[][..], |run| &run.apps[..]);
    let names: Vec<String> = apps.iter().map(|cell| cell.app.clone()).collect();
    let heading = [&["choice".to_owned()], &names[..], &["mean".to_owned()]].concat();
    let rows = choices.runs.iter().map(|run| {
        let name = match run.arguments.as_str() {
            "" => "**the defaults**".to_owned(),
            arguments => format!("`{arguments}`"),
        };
        let shares = run.apps.iter().map(|cell| format!("{:.3}", cell.recovery_perplexity));
        let capped: f64 = run.apps.iter().map(|cell| cell.recovery_perplexity.min(1.0)).sum();
        let mean = format!("{:.3}", capped / run.apps.len() as f64);
        line(&[&[name], &shares.collect::<Vec<_>>()[..], &[mean]].concat())
    });
    format!(
        "\nRecovery in log-perplexity, as above, with one choice changed at a time. Recorded with `cargo xtask eval choices` at\n\
         `{}` on {} CPUs.\n\n{}|{}\n{}\n",
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
    fn a_row_is_a_choice_and_its_mean_is_capped() {
        let cell = |app: &str, recovery_perplexity| Cell {
            app: app.to_owned(),
            proxy_perplexity: 9.0,
            mounted_perplexity: 2.0,
            recovery_perplexity,
        };
        let run = |arguments: &str, home, other| Run {
            arguments: arguments.to_owned(),
            apps: vec![cell("home", home), cell("other", other)],
        };
        let runs = vec![run("", 0.8, 0.9), run("--score reap", 1.2, 0.5)];
        let table = render(&Choices { commit: "abc".to_owned(), cpus: 2, runs });
        assert!(table.contains("| choice | home | other | mean |\n|---|---|---|---|\n"), "{table}");
        assert!(table.contains("| **the defaults** | 0.800 | 0.900 | 0.850 |\n"), "{table}");
        assert!(table.contains("| `--score reap` | 1.200 | 0.500 | 0.750 |\n"), "{table}");
    }
}
