use std::ops::RangeInclusive;

use rusqlite::types::Type;
use serde::{Serialize, Serializer};
use time::Date;

use crate::RegistryError;
use crate::app;
use crate::name::AppName;
use crate::registry::Registry;

/// Numbers of requests and tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Requests, cancelled and failed ones too.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Those of them that were in the cache.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
}

impl Usage {
    /// Tokens of prompts, cached or not, and of answers: what counts for a token budget.
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

/// Usage of a day in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DayUsage {
    /// The day, in JSON as `2026-11-27`.
    #[serde(serialize_with = "as_text")]
    pub day: Date,
    /// What was used on it.
    #[serde(flatten)]
    pub usage: Usage,
}

fn as_text<S: Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}

impl Registry {
    /// Adds to an app's usage of today, in one step. Sums stop at the largest number.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp); a revoked app's last requests count too.
    pub fn record_usage(&self, app: &AppName, usage: &Usage) -> Result<(), RegistryError> {
        let day = self.now().day().to_julian_day();
        let Usage { requests, prompt_tokens, cached_tokens, completion_tokens } = usage;
        // Without the order, a sum that overflows would be a floating-point number.
        const ADD: &str = "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET \
             requests = min(requests, 9223372036854775807 - excluded.requests) + excluded.requests, \
             prompt_tokens = min(prompt_tokens, 9223372036854775807 - excluded.prompt_tokens) \
                 + excluded.prompt_tokens, \
             cached_tokens = min(cached_tokens, 9223372036854775807 - excluded.cached_tokens) \
                 + excluded.cached_tokens, \
             completion_tokens = min(completion_tokens, 9223372036854775807 - excluded.completion_tokens) \
                 + excluded.completion_tokens";
        self.database.write(|transaction| {
            app::known(transaction, app)?;
            transaction.prepare_cached(ADD)?.execute((
                app,
                day,
                requests,
                prompt_tokens,
                cached_tokens,
                completion_tokens,
            ))?;
            Ok(())
        })
    }

    /// Usage of an app on the days of a range, without those on which there was none.
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp).
    pub fn usage(
        &self,
        app: &AppName,
        days: RangeInclusive<Date>,
    ) -> Result<Vec<DayUsage>, RegistryError> {
        let (from, to) = days.into_inner();
        self.database.read(|connection| {
            app::known(connection, app)?;
            let sql = "SELECT day, requests, prompt_tokens, cached_tokens, completion_tokens \
                       FROM usage WHERE app = ? AND day BETWEEN ? AND ? ORDER BY day";
            let mut statement = connection.prepare_cached(sql)?;
            let days = (app, from.to_julian_day(), to.to_julian_day());
            let found = statement.query_map(days, day_usage)?;
            Ok(found.collect::<Result<_, _>>()?)
        })
    }

    /// Usage of an app today (UTC).
    ///
    /// # Errors
    /// [`NoApp`](RegistryError::NoApp).
    pub fn usage_today(&self, app: &AppName) -> Result<Usage, RegistryError> {
        let today = self.today();
        let found = self.usage(app, today..=today)?;
        Ok(found.first().map(|found| found.usage).unwrap_or_default())
    }

    /// Today (UTC), to which [`record_usage`](Self::record_usage) adds.
    pub fn today(&self) -> Date {
        self.now().day()
    }
}

fn day_usage(row: &rusqlite::Row<'_>) -> rusqlite::Result<DayUsage> {
    let day = Date::from_julian_day(row.get(0)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, error.into())
    })?;
    let usage = Usage {
        requests: row.get(1)?,
        prompt_tokens: row.get(2)?,
        cached_tokens: row.get(3)?,
        completion_tokens: row.get(4)?,
    };
    Ok(DayUsage { day, usage })
}
