//! The README's results table.

use super::record::{App, Quality, Record};

const HEADING: &[&str] = &[
    "app",
    "foundation",
    "proxy",
    "tuned proxy",
    "**mounted**",
    "tuned in full",
    "random, mounted",
    "scale",
    "recovery",
    "experts, MiB",
    "tuning peak, MiB",
    "seconds",
];

/// What the table's columns are, the table, and whose the data is.
pub(super) fn render(record: &Record, apps: &[App]) -> String {
    let mut lines = vec![String::new(), introduction(record, apps), String::new()];
    lines.push(line(HEADING));
    lines.push(format!("|{}", "---|".repeat(HEADING.len())));
    lines.extend(apps.iter().map(|app| line(&cells(app))));
    lines.push(String::new());
    lines.extend(apps.iter().map(data));
    lines.push("\n".to_owned());
    lines.join("\n")
}

fn introduction(record: &Record, apps: &[App]) -> String {
    let settings = apps.first().map_or_else(String::new, |app| {
        format!(
            "First {} test rows, budget {}, seed {}, foundation `{}`. ",
            app.rows,
            app.budget.as_str().map_or_else(|| app.budget.to_string(), str::to_owned),
            app.seed,
            app.fingerprint.get(..12).unwrap_or(&app.fingerprint),
        )
    });
    format!(
        "{settings}Recorded with `cargo xtask eval loop` at `{}` on {} CPUs.\n\n\
         Models: accuracy in percent / perplexity of the completion. *Recovery*: the share of full tuning's gain in\n\
         log-perplexity that the mounted adapter keeps. *Scale*: chosen by the guard on validation rows; 0 is not mounted.\n\
         *Experts*: bytes in the foundation → in the proxy. *Tuning peak*: anonymous memory, on the proxy → in full.\n\
         *Seconds*: all stages, the controls included.",
        record.commit, record.cpus
    )
}

fn cells(app: &App) -> Vec<String> {
    vec![
        app.app.clone(),
        quality(app.foundation),
        quality(app.proxy),
        quality(app.tuned_proxy),
        format!("**{}**", quality(app.mounted)),
        quality(app.full),
        quality(app.random_mounted),
        format!("{:.2}", app.scale),
        app.recovery_perplexity.map_or_else(|| "–".to_owned(), |share| format!("{share:.2}")),
        format!("{} → {}", mib(app.expert_bytes.foundation), mib(app.expert_bytes.proxy)),
        format!("{} → {}", mib(app.peak_bytes.tune_proxy), mib(app.peak_bytes.tune_full)),
        format!("{:.0}", app.seconds.values().sum::<f64>()),
    ]
}

fn quality(Quality { accuracy, perplexity }: Quality) -> String {
    format!("{:.1} / {perplexity:.3}", 100.0 * accuracy)
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn data(app: &App) -> String {
    match &app.source {
        Some(from) => format!("- `{}`: {}, {}", app.app, from.source, from.licence),
        None => format!("- `{}`: written for this project, in `fixtures/apps`", app.app),
    }
}

fn line(cells: &[impl AsRef<str>]) -> String {
    cells.iter().fold("|".to_owned(), |line, cell| format!("{line} {} |", cell.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::record::Source;
    use super::*;

    fn report(app: &str, seed: u64) -> Value {
        let quality = |accuracy: f64, perplexity: f64| json!({"accuracy": accuracy, "perplexity": perplexity});
        json!({"apps": [{
            "app": app, "budget": "0.33", "rows": 300, "seed": seed, "options": {}, "fingerprint": "0123456789abcdef",
            "foundation": quality(0.0, 421.9), "proxy": quality(0.0, 900.0), "random_proxy": quality(0.0, 950.0),
            "random_mounted": quality(0.1, 3.0), "tuned_proxy": quality(0.2, 1.9), "mounted": quality(0.25, 1.75),
            "full": quality(0.3, 1.5), "scale": 0.75, "recovery": 0.83, "recovery_perplexity": null,
            "expert_bytes": {"foundation": 2 << 20, "proxy": 1 << 19},
            "peak_bytes": {"tune_proxy": 100 << 20, "tune_full": 200 << 20},
            "seconds": {"score": 1.5, "tune": 2.5}
        }]})
    }

    fn record() -> Record {
        Record { commit: "abc".to_owned(), cpus: 2, apps: vec![] }
    }

    #[test]
    fn a_row_is_an_app() {
        let mut record = record();
        record.add(report("home", 0), None).unwrap();
        let source = Source { source: "the/source".to_owned(), licence: "MIT".to_owned() };
        record.add(report("other", 0), Some(&source)).unwrap();
        let table = render(&record, &record.apps().unwrap());
        let row = "| home | 0.0 / 421.900 | 0.0 / 900.000 | 20.0 / 1.900 | **25.0 / 1.750** | 30.0 / 1.500 | 10.0 / 3.000 \
                   | 0.75 | – | 2.0 → 0.5 | 100.0 → 200.0 | 4 |\n";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("\n- `other`: the/source, MIT\n"), "{table}");
        assert!(
            table.contains("First 300 test rows, budget 0.33, seed 0, foundation `0123456789ab`."),
            "{table}"
        );
    }

    #[test]
    fn apps_under_different_settings_are_refused() {
        let mut record = record();
        record.add(report("home", 0), None).unwrap();
        let error = record.add(report("other", 1), None).unwrap_err().to_string();
        assert!(error.starts_with("other ran under"), "{error}");
    }
}
