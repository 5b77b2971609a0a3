use anyhow::Context;
use serde::Deserialize;

use crate::output;

/// What `customize --dry-run --json` prints, as far as jobs use it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Forecast {
    memory_bytes: u64,
    available_bytes: Option<u64>,
    apps: Vec<AppForecast>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct AppForecast {
    rows: RowsForecast,
    stages: Vec<StageForecast>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct RowsForecast {
    train: CountForecast,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct CountForecast {
    rows: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct StageForecast {
    name: String,
    memory_bytes: u64,
    finished: bool,
}

impl Forecast {
    pub(super) fn parse(json: &str) -> anyhow::Result<Self> {
        serde_json::from_str(json).context("the forecast of the job is not as expected")
    }

    /// Number of training rows that are short enough.
    pub(super) fn training_rows(&self) -> u64 {
        self.apps.iter().map(|app| app.rows.train.rows).sum()
    }

    /// Why the job is too large for this memory, or without a maximum for what is available; `None` if it is not.
    pub(super) fn excess(&self, memory: Option<u64>) -> Option<String> {
        let bytes = memory.or(self.available_bytes)?;
        if self.memory_bytes <= bytes {
            return None;
        }
        let to_run = self.apps.iter().flat_map(|app| &app.stages).filter(|stage| !stage.finished);
        let largest = to_run.max_by_key(|stage| stage.memory_bytes);
        let stage = largest.map_or("customize", |stage| &stage.name);
        let [needed, bytes] = [self.memory_bytes, bytes].map(output::bytes);
        let has = if memory.is_some() { "a job may have" } else { "there are now" };
        Some(format!("the stage {stage} would need about {needed} of memory, and {has} {bytes}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_above_the_memory_names_the_largest_stage_that_is_to_run() {
        let json = r#"{"memory_bytes": 3145728, "available_bytes": 4194304, "seconds": 1.0, "apps": [{
            "rows": {"train": {"rows": 32, "tokens": 9}, "skipped": 0}, "stages": [
            {"name": "score", "memory_bytes": 9000000, "finished": true},
            {"name": "tune", "memory_bytes": 3145728, "finished": false},
            {"name": "mount", "memory_bytes": 2097152, "finished": false}]}]}"#;
        let forecast = Forecast::parse(json).expect("a forecast");
        assert_eq!(forecast.training_rows(), 32);
        assert_eq!((forecast.excess(None), forecast.excess(Some(3 << 20))), (None, None));
        let excess = forecast.excess(Some(1 << 20)).expect("too much");
        let expected =
            "the stage tune would need about 3.00 MiB of memory, and a job may have 1.00 MiB";
        assert_eq!(excess, expected);
        assert!(Forecast::parse("{}").is_err());
    }
}
