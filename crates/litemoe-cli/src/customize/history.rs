//! `report.json` and `sweep.json`: the results of the latest run, and those of earlier ones.

use std::path::Path;

use anyhow::Context;
use litemoe_files::check_target_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::report::Report;
use crate::artefact;

/// Results of a run that makes one proxy for each app.
pub(super) const REPORT: &str = "report.json";

/// Results of a sweep.
pub(super) const SWEEP: &str = "sweep.json";

/// Maximum number of earlier runs that are kept.
const MAX_EARLIER: usize = 100;

/// File of results: the members of a [`Run`], the latest, and the earlier ones. A member that is none of these is refused,
/// as it would be lost.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    apps: Vec<Value>,
    date: Option<String>,
    program: Option<String>,
    /// Earlier runs, the latest first.
    #[serde(default)]
    earlier: Vec<Run>,
}

/// Results of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// Reports of the apps, with their options.
    apps: Vec<Value>,
    /// When it ended, in UTC (RFC 3339); absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    /// Version of the program; absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<String>,
}

/// As it is written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    latest: &'a Report,
    date: String,
    program: &'static str,
    earlier: Vec<Run>,
}

impl History {
    /// Reads the results of earlier runs; `None` if there are none.
    ///
    /// # Errors
    /// A file that holds something else: nothing that was kept is lost.
    pub(super) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        check_target_file(path).with_context(|| format!("cannot write {}", path.display()))?;
        if !path.exists() {
            return Ok(None);
        }
        let read = artefact::read_plain(path);
        read.with_context(|| {
            format!("{} does not hold results of earlier runs: move it away", path.display())
        })
        .map(Some)
    }

    /// Writes the results of a run in front of the earlier ones.
    pub(super) fn write(path: &Path, latest: &Report) -> anyhow::Result<()> {
        let earlier = Self::read(path)?.map_or_else(Vec::new, |found| {
            let Self { apps, date, program, mut earlier } = found;
            earlier.insert(0, Run { apps, date, program });
            earlier.truncate(MAX_EARLIER);
            earlier
        });
        let date = OffsetDateTime::now_utc().replace_nanosecond(0)?.format(&Rfc3339)?;
        let program = env!("CARGO_PKG_VERSION");
        artefact::write(path, &Written { latest, date, program, earlier })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use litemoe_fixtures::fuzz::{Bound, fuzz_json};
    use serde_json::json;

    use super::*;

    /// Bound of reading results, whose reports are kept as JSON.
    const RUNS: Bound = Bound { per_value: 400, ..artefact::BOUND };

    fn file(path: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(path).expect("it is there")).expect("JSON")
    }

    #[test]
    fn earlier_runs_are_kept_the_latest_first_and_at_most_a_hundred() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(REPORT);
        let empty = Report { apps: Vec::new() };
        // As earlier versions wrote it.
        fs::write(&path, json!({"apps": [{"app": "first"}]}).to_string()).expect("written");
        History::write(&path, &empty).expect("written");
        let found = file(&path);
        assert_eq!(found["apps"], json!([]));
        assert_eq!(found["program"], env!("CARGO_PKG_VERSION"));
        let date = found["date"].as_str().expect("a date");
        assert!(date.len() == 20 && date.starts_with("20") && date.ends_with('Z'), "{date}");
        assert_eq!(found["earlier"], json!([{"apps": [{"app": "first"}]}]));

        for n in 1..=MAX_EARLIER {
            History::write(&path, &empty).expect("written");
            let earlier = file(&path)["earlier"].as_array().expect("a list").clone();
            assert_eq!(earlier.len(), (n + 1).min(MAX_EARLIER));
            assert!(earlier[0]["date"].is_string());
            let is_first = earlier.last().is_some_and(|run| run["apps"][0]["app"] == "first");
            assert_eq!(is_first, n < MAX_EARLIER);
        }
    }

    #[test]
    fn fuzzed_results_of_earlier_runs() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(REPORT);
        let run = json!({"apps": [{"app": "a", "rows": 3, "by": [1.5, null]}], "date": "2025-01-01T00:00:00Z",
            "program": "0.1.0"});
        let mut file = run.clone();
        file["earlier"] = json!([run, {"apps": []}]);
        let documents = [file, run].map(|file| file.to_string().into_bytes());
        let mut read = 0;
        fuzz_json(&documents, |_, document| {
            fs::write(&path, document).expect("written");
            let mut history = None;
            let allocated = allocation_counter::measure(|| history = History::read(&path).ok());
            RUNS.check(document, allocated.bytes_max);
            let Some(History { apps, date, program, earlier }) = history.flatten() else { return };
            read += 1;
            let mut file: Value = serde_json::from_slice(document).expect("JSON");
            let latest = serde_json::to_value(Run { apps, date, program }).expect("JSON");
            let is_set = |_: &String, value: &mut Value| !value.is_null();
            for (key, value) in latest.as_object().expect("an object") {
                assert_eq!(file[key].take(), *value);
            }
            let runs = file["earlier"].take();
            assert_eq!(runs.as_array().map_or(0, Vec::len), earlier.len());
            file.as_object_mut().expect("an object").retain(is_set);
            assert_eq!(file, json!({}), "a member would be lost");
        });
        assert!(read > 0);
    }

    #[test]
    fn what_is_no_report_is_refused_and_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(REPORT);
        for text in [
            "",
            "{\"apps\": [",
            "{\"runs\": []}",
            "[]",
            "{\"apps\": [], \"notes\": \"mine\"}",
            "{\"apps\": [], \"earlier\": [{\"apps\": [], \"notes\": \"mine\"}]}",
        ] {
            fs::write(&path, text).expect("written");
            let error = History::write(&path, &Report { apps: Vec::new() }).expect_err("no report");
            assert!(format!("{error:#}").contains("report.json"), "{error:#}");
            assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
        }
    }
}
