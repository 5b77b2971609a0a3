//! The README's results tables.

use serde_json::Value;

use super::apps::{HOME, SEEDED, SEEN};
use super::record::{Cell, Choice, Quality, Record};

const HEADING: &[&str] = &[
    "app",
    "foundation",
    "tuned proxy",
    "**mounted**",
    "tuned in full",
    "random, mounted",
    "routing",
    "recovery",
    "adapter, MiB",
    "tuning peak, MiB",
];

/// The introduction, a table per foundation and budget, the other seeds, and the sources of the data.
pub(super) fn render(record: &Record, cells: &[Cell]) -> String {
    let mut text = format!("\n{}\n", introduction(record, cells));
    let first: Vec<&Cell> = cells.iter().filter(|cell| cell.seed == 0).collect();
    for (foundation, budget) in groups(&first) {
        let of_group = |cell: &&&Cell| cell.foundation_name == foundation && cell.budget == budget;
        let group: Vec<&Cell> = first.iter().filter(of_group).copied().collect();
        text += &format!("\nFoundation `{foundation}`, budget {budget}:\n\n{}", table(&group));
        text += &means(&group);
    }
    text += &seeds(cells);
    text + "\n" + &sources(&first) + "\n"
}

/// Foundations and budgets in the order of the runs.
fn groups(cells: &[&Cell]) -> Vec<(String, String)> {
    let mut groups: Vec<(String, String)> = Vec::new();
    for cell in cells {
        let group = (cell.foundation_name.clone(), cell.budget.clone());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

fn introduction(record: &Record, cells: &[Cell]) -> String {
    let rows = cells.iter().map(|cell| cell.rows).max().unwrap_or(0);
    format!(
        "{rows} test rows drawn by the seed, or as many as there are. Recorded with `cargo xtask eval loop` at `{}` on {} CPUs\n\
         ({}).\n\n\
         Models: accuracy in percent / perplexity of the completion. *Routing*: what the guard chose on validation rows, with\n\
         the scale where it is not 1. *Recovery*: the share of full tuning's gain in log-perplexity / in accuracy that the\n\
         mounted adapter keeps; full tuning has the same targets, options, seed and rows. *Tuning peak*: anonymous memory, on\n\
         the proxy → in full. The foundations saw the training rows of {}.",
        record.commit,
        record.machine.cpus,
        record.machine.model,
        SEEN.join(", ")
    )
}

fn table(cells: &[&Cell]) -> String {
    let rule = format!("|{}\n", "---|".repeat(HEADING.len()));
    let rows: String = cells.iter().map(|cell| line(&row(cell))).collect();
    line(HEADING) + &rule + &rows
}

fn row(cell: &Cell) -> Vec<String> {
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |it| format!("{it:.3}"));
    vec![
        cell.app.clone(),
        quality(cell.foundation),
        quality(cell.tuned_proxy),
        format!("**{}**", quality(cell.mounted)),
        quality(cell.full),
        quality(cell.random_mounted),
        cell.choice.as_ref().map_or_else(|| "not mounted".to_owned(), routing),
        format!("{} / {}", share(cell.recovery_perplexity), share(cell.recovery)),
        mib(cell.adapter_bytes.mounted),
        format!("{} → {}", mib(cell.peak_bytes.tune_proxy), mib(cell.peak_bytes.tune_full)),
    ]
}

fn routing(Choice { routing, scale }: &Choice) -> String {
    let routing = match routing {
        Value::String(word) => word.clone(),
        penalty => format!("−{penalty}"),
    };
    if *scale == 1.0 { routing } else { format!("{routing}, ×{scale}") }
}

/// Mean recoveries over the apps that the foundation was not trained on.
fn means(cells: &[&Cell]) -> String {
    let unseen = || cells.iter().filter(|cell| !SEEN.contains(&&*cell.app));
    let mean = |shares: Vec<f64>| {
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        if shares.is_empty() { "–".to_owned() } else { format!("{mean:.3}") }
    };
    let nats = mean(unseen().filter_map(|cell| cell.recovery_perplexity).collect());
    let accuracy = mean(unseen().filter_map(|cell| cell.recovery).collect());
    format!(
        "\nMean recovery of the apps that it has not seen: {nats} in log-perplexity, {accuracy} in accuracy.\n"
    )
}

/// Results of the other seeds.
fn seeds(cells: &[Cell]) -> String {
    let of_app = |app: &&str| {
        let Some(first) = cells.iter().find(|cell| cell.app == *app && cell.seed > 0) else {
            return String::new();
        };
        let same = |cell: &&Cell| {
            cell.app == *app
                && cell.budget == first.budget
                && cell.foundation_name == first.foundation_name
        };
        let results: Vec<String> = cells
            .iter()
            .filter(same)
            .map(|cell| {
                let share = cell.recovery_perplexity.map_or(f64::NAN, |share| share);
                format!("{} ({share:.3})", quality(cell.mounted))
            })
            .collect();
        format!(
            "\n`{app}`, budget {}, seeds 0 to {}: mounted (recovery) {}.\n",
            first.budget,
            results.len() - 1,
            results.join(", ")
        )
    };
    SEEDED.iter().map(of_app).collect()
}

fn quality(Quality { accuracy, perplexity }: Quality) -> String {
    format!("{:.1} / {perplexity:.3}", 100.0 * accuracy)
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Sources of the data, one line per app.
fn sources(cells: &[&Cell]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cell in cells {
        let line = match &cell.source {
            Some(from) => format!("- `{}`: {}, {}\n", cell.app, from.source, from.licence),
            None if cell.app == HOME => {
                format!("- `{HOME}`: written for this project, in `fixtures/apps`\n")
            }
            None => continue,
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.concat()
}

pub(super) fn line(cells: &[impl AsRef<str>]) -> String {
    cells.iter().fold("|".to_owned(), |line, cell| format!("{line} {} |", cell.as_ref())) + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::{Machine, Source};
    use super::*;

    fn report(app: &str, seed: u64, budget: &str) -> Value {
        let quality = |accuracy: f64, perplexity: f64| json!({"accuracy": accuracy, "perplexity": perplexity});
        json!({"apps": [{
            "app": app, "budget": budget, "rows": 300, "seed": seed, "options": {}, "fingerprint": "0123456789abcdef",
            "foundation": quality(0.0, 421.9), "proxy": quality(0.0, 900.0), "random_proxy": quality(0.0, 950.0),
            "random_mounted": quality(0.1, 3.0), "tuned_proxy": quality(0.2, 1.9), "mounted": quality(0.25, 1.75),
            "full": quality(0.3, 1.5), "choice": {"routing": "restricted", "scale": 0.75},
            "recovery": 0.83, "recovery_perplexity": 0.97,
            "adapter_bytes": {"mounted": 3 << 19, "full": 1}, "serve_bytes": {},
            "peak_bytes": {"tune_proxy": 100 << 20, "tune_full": 200 << 20},
            "seconds": {"score": 1.5, "tune": 2.5}
        }]})
    }

    fn record() -> Record {
        let machine = Machine { cpus: 2, model: "a processor".to_owned() };
        Record { commit: "abc".to_owned(), machine, cells: vec![] }
    }

    #[test]
    fn a_row_is_an_app() {
        let mut record = record();
        record.add("embedded", report("home", 0, "0.33"), None).unwrap();
        record.add("embedded", report("home", 1, "0.33"), None).unwrap();
        let source = Source { source: "the/source".to_owned(), licence: "MIT".to_owned() };
        record.add("embedded", report("assistant", 0, "0.33"), Some(&source)).unwrap();
        record.add("olmoe", report("home", 0, "0.17"), None).unwrap();
        let text = render(&record, &record.cells().unwrap());
        let row = "| home | 0.0 / 421.900 | 20.0 / 1.900 | **25.0 / 1.750** | 30.0 / 1.500 | 10.0 / 3.000 \
                   | restricted, ×0.75 | 0.970 / 0.830 | 1.5 | 100.0 → 200.0 |\n";
        assert_eq!(text.matches(row).count(), 2, "{text}");
        assert!(text.contains("\n- `assistant`: the/source, MIT\n"), "{text}");
        assert!(text.contains("Foundation `embedded`, budget 0.33:\n"), "{text}");
        assert!(text.contains("Foundation `olmoe`, budget 0.17:\n"), "{text}");
        assert!(
            text.contains("it has not seen: 0.970 in log-perplexity, 0.830 in accuracy."),
            "{text}"
        );
        assert!(text.contains("seeds 0 to 1: mounted (recovery) 25.0 / 1.750 (0.970), "), "{text}");
    }
}
