//! `cargo xtask eval noise`: what `litemoe score --noise` costs a proxy, by the loop without rows on the side that extracts
//! it: no refit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::binary::Binary;
use super::record;
use super::table::line;
use super::{write_readme, write_record};

const RECORD: &str = "results/noise.json";
const MARK: &str = "results:noise";

/// Noise multipliers; 0 is without noise.
const MULTIPLIERS: [f64; 5] = [0.0, 0.5, 1.0, 2.0, 4.0];

/// Arguments of `cargo xtask eval noise`.
#[derive(Args)]
pub(crate) struct NoiseArgs {
    /// Number of draws of the noise, each with a seed of tuning.
    #[arg(long, value_name = "N", default_value_t = 2)]
    draws: u64,
    /// Number of calibration rows: the first of the training rows.
    #[arg(long, value_name = "N", default_value_t = 256)]
    rows: usize,
    /// Output folder.
    #[arg(long, value_name = "DIR", default_value = "litemoe-out/noise")]
    out: PathBuf,
    /// Write the README's table from the record; run nothing.
    #[arg(long)]
    table_only: bool,
}

/// `results/noise.json`
#[derive(Debug, Serialize, Deserialize)]
struct Noise {
    commit: String,
    cpus: usize,
    /// Calibration rows.
    rows: usize,
    runs: Vec<Run>,
}

/// One way to choose the experts.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    /// Noise multiplier; 0 is without noise, `None` a random choice of experts.
    multiplier: Option<f64>,
    /// ε at δ = 1e-5; `None` where the rows are not private, or not used.
    epsilon: Option<f64>,
    draws: Vec<Draw>,
}

/// One draw of the noise.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Draw {
    /// Share of the kept experts that are kept without noise too.
    common: f64,
    /// Of the adapter mounted with restricted routing, on the test rows.
    accuracy: f64,
    perplexity: f64,
}

/// Runs and records every multiplier unless only the table is requested, and writes the table.
pub(crate) fn run(args: &NoiseArgs, root: &Path) -> Result<()> {
    if !args.table_only {
        write_record(root, RECORD, &measure(args, root)?)?;
    }
    write_readme(root, MARK, &recorded_table(root)?)
}

fn measure(args: &NoiseArgs, root: &Path) -> Result<Noise> {
    let loop_ = Loop { binary: Binary::build(root)?, args, root };
    let cpus = thread::available_parallelism()?.get();
    let mut noise = Noise { commit: record::commit(root)?, cpus, rows: args.rows, runs: vec![] };
    for multiplier in MULTIPLIERS.map(Some).into_iter().chain([None]) {
        noise.runs.push(loop_.run(multiplier)?);
    }
    Ok(noise)
}

/// The loop by hand, on the embedded foundation and app.
struct Loop<'a> {
    binary: Binary,
    args: &'a NoiseArgs,
    root: &'a Path,
}

impl Loop<'_> {
    fn run(&self, multiplier: Option<f64>) -> Result<Run> {
        let name = multiplier.map_or("random".to_owned(), |multiplier| multiplier.to_string());
        let (mut epsilon, mut draws) = (None, Vec::new());
        for draw in 0..self.args.draws {
            let out = self.args.out.join(format!("{name}-{draw}"));
            fs::create_dir_all(&out)?;
            let (found, draw) = self.draw(multiplier, draw, &out)?;
            epsilon = found;
            draws.push(draw);
        }
        Ok(Run { multiplier, epsilon, draws })
    }

    fn draw(&self, multiplier: Option<f64>, draw: u64, out: &Path) -> Result<(Option<f64>, Draw)> {
        let foundation = &text(&self.root.join("fixtures/foundation"));
        let rows = |split: &str| {
            text(&self.root.join("fixtures/apps/home").join(split).with_extension("jsonl"))
        };
        let file = |name: &str| text(&out.join(name));
        let [scores, plan, proxy, adapter, mounted] =
            ["scores.json", "plan.json", "proxy", "adapter", "mounted"].map(file);
        let (train, seed) = (rows("train"), draw.to_string());
        let calibration = file("calibration.jsonl");
        let first: String =
            fs::read_to_string(&train)?.split_inclusive('\n').take(self.args.rows).collect();
        fs::write(&calibration, first)?;
        let mut scoring: Vec<String> =
            ["score", foundation, &calibration, "--out", &scores, "--seed", &seed]
                .map(str::to_owned)
                .into();
        if let Some(multiplier) = multiplier.filter(|multiplier| *multiplier > 0.0) {
            scoring.extend(["--noise".to_owned(), multiplier.to_string()]);
        }
        let scored = self.binary.json(&scoring)?;
        let score = if multiplier.is_some() { "task" } else { "random" };
        self.json(&["plan", foundation, &scores, "--score", score, "--out", &plan])?;
        self.json(&["extract", foundation, &plan, "--out", &proxy])?;
        let validation = rows("validation");
        self.json(&[
            "tune",
            &proxy,
            &train,
            "--validation",
            &validation,
            "--plan",
            &plan,
            "--seed",
            &seed,
            "--out",
            &adapter,
        ])?;
        self.json(&[
            "mount",
            foundation,
            &adapter,
            "--plan",
            &plan,
            "--routing",
            "restricted",
            "--scale",
            "1",
            "--out",
            &mounted,
        ])?;
        let test = rows("test");
        let evaluated = self.json(&["eval", foundation, &test, "--adapter", &mounted])?;
        let number = |name: &str| {
            let value = evaluated[name].as_f64();
            value.with_context(|| format!("the evaluation has no {name}"))
        };
        let draw = Draw {
            common: self.common(draw, Path::new(&plan))?,
            accuracy: number("accuracy")?,
            perplexity: number("perplexity")?,
        };
        Ok((scored.pointer("/privacy/epsilon").and_then(Value::as_f64), draw))
    }

    fn json(&self, args: &[&str]) -> Result<Value> {
        self.binary.json(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    /// The share of kept experts that the plan without noise of the same draw keeps.
    fn common(&self, draw: u64, plan: &Path) -> Result<f64> {
        let exact = kept(&self.args.out.join(format!("0-{draw}")).join("plan.json"))?;
        let found = kept(plan)?;
        Ok(found.intersection(&exact).count() as f64 / found.len().max(1) as f64)
    }
}

/// Kept experts of a plan: layer and index.
fn kept(plan: &Path) -> Result<BTreeSet<(String, u64)>> {
    #[derive(Deserialize)]
    struct Plan {
        layers: BTreeMap<String, Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        host: u64,
    }
    let json = fs::read(plan).with_context(|| plan.display().to_string())?;
    let plan: Plan = serde_json::from_slice(&json).with_context(|| plan.display().to_string())?;
    let of_layer = |(layer, plan): (String, Layer)| {
        plan.groups.into_iter().map(move |group| (layer.clone(), group.host))
    };
    Ok(plan.layers.into_iter().flat_map(of_layer).collect())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn recorded_table(root: &Path) -> Result<String> {
    let path = root.join(RECORD);
    let json = fs::read(&path).with_context(|| path.display().to_string())?;
    let noise: Noise = serde_json::from_slice(&json).with_context(|| path.display().to_string())?;
    Ok(render(&noise))
}

fn render(noise: &Noise) -> String {
    let heading = [
        "noise multiplier",
        "ε at δ = 1e-5",
        "experts as without noise, %",
        "accuracy, %",
        "perplexity",
    ];
    let rows = noise.runs.iter().map(|run| {
        let name = match run.multiplier {
            None => "(a random choice)".to_owned(),
            Some(0.0) => "none".to_owned(),
            Some(multiplier) => multiplier.to_string(),
        };
        let epsilon = match (run.multiplier, run.epsilon) {
            (_, Some(epsilon)) => format!("{epsilon:.1}"),
            (None, None) => "0".to_owned(),
            (Some(_), None) => "∞".to_owned(),
        };
        let each =
            |of: fn(&Draw) -> String| run.draws.iter().map(of).collect::<Vec<_>>().join(", ");
        line(&[
            name,
            epsilon,
            each(|draw| format!("{:.0}", 100.0 * draw.common)),
            each(|draw| format!("{:.1}", 100.0 * draw.accuracy)),
            each(|draw| format!("{:.3}", draw.perplexity)),
        ])
    });
    format!(
        "\n`home`, {} calibration rows, budget 0.33, no refit, mounted with restricted routing; one value for each draw of the\n\
         noise and seed of tuning. Recorded with `cargo xtask eval noise` at `{}` on {} CPUs.\n\n{}|{}\n{}\n",
        noise.rows,
        noise.commit,
        noise.cpus,
        line(&heading.map(str::to_owned)),
        "---|".repeat(heading.len()),
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::super::{README, marked};
    use super::*;

    #[test]
    fn the_readme_shows_the_recorded_noise() {
        let root = crate::workspace_root();
        let readme = fs::read_to_string(root.join(README)).unwrap();
        assert_eq!(
            marked::find(&readme, MARK).unwrap(),
            recorded_table(&root).unwrap(),
            "run `cargo xtask eval noise --table-only`"
        );
    }

    #[test]
    fn a_row_has_a_value_for_each_draw() {
        let draw = |accuracy| Draw { common: 0.5, accuracy, perplexity: 1.5 };
        let run =
            |multiplier, epsilon| Run { multiplier, epsilon, draws: vec![draw(0.25), draw(0.75)] };
        let runs = vec![run(Some(0.0), None), run(Some(2.0), Some(2.524)), run(None, None)];
        let table = render(&Noise { commit: "abc".to_owned(), cpus: 2, rows: 7, runs });
        for row in [
            "| none | ∞ | 50, 50 | 25.0, 75.0 | 1.500, 1.500 |\n",
            "| 2 | 2.5 | 50, 50 | 25.0, 75.0 | 1.500, 1.500 |\n",
            "| (a random choice) | 0 | 50, 50 | 25.0, 75.0 | 1.500, 1.500 |\n",
        ] {
            assert!(table.contains(row), "{table}");
        }
    }
}
