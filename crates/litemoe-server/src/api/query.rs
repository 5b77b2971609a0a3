use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use litemoe_registry::{Page, RegistryError};
use serde_json::{Value, json};

use crate::api::error::ApiError;

/// Parameters of a request in its path, after `?`.
#[derive(Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses `name=value&…`; nothing is percent-decoded, because no value that is known needs it.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let mut values = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if values.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(ApiError::twice(name));
            }
        }
        Ok(Self(values))
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The part of a list that is asked for; `usual` entries without `limit`, and at most `most`.
    pub(crate) fn part(&mut self, usual: u32, most: u32) -> Result<Part, ApiError> {
        let limit = match self.take("limit") {
            None => usual,
            Some(limit) => {
                let given = limit.parse().ok().filter(|limit| (1..=most).contains(limit));
                given.ok_or_else(|| wrong("limit", &format!("a whole number from 1 to {most}")))?
            }
        };
        Ok(Part { after: self.take("after"), limit, oldest_first: false })
    }

    /// The same, of a list that can begin with its oldest entry.
    pub(crate) fn ordered_part(&mut self, usual: u32, most: u32) -> Result<Part, ApiError> {
        let oldest_first = match self.take("order").as_deref() {
            None | Some("desc") => false,
            Some("asc") => true,
            Some(_) => return Err(wrong("order", "`asc` or `desc`")),
        };
        Ok(Part { oldest_first, ..self.part(usual, most)? })
    }

    /// Refuses parameters that were not read.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::unknown_parameter(&name)),
        }
    }
}

fn wrong(name: &str, expected: &str) -> ApiError {
    ApiError::bad_request("invalid_value", format!("`{name}` is not {expected}")).of(name)
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Id of the entry that it comes after.
    pub(crate) after: Option<String>,
    pub(crate) limit: u32,
    oldest_first: bool,
}

/// Entries of a list.
#[derive(Debug)]
pub(crate) struct Listed {
    /// As they are shown, each with its id.
    pub(crate) data: Vec<Value>,
    /// Whether others come after them.
    pub(crate) has_more: bool,
}

impl Part {
    /// Reads the part of a list that `fetch` gives newest first.
    pub(crate) fn read<T>(
        &self,
        fetch: impl Fn(Page<'_>) -> Result<Vec<T>, RegistryError>,
        id: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, bool), RegistryError> {
        let (after, limit) = (self.after.as_deref(), self.limit as usize);
        if !self.oldest_first {
            let entries = fetch(Page { after, limit: self.limit.saturating_add(1) })?;
            return Ok(cut(entries, limit));
        }
        if after.is_some() {
            // Refuses one that is not in the list.
            fetch(Page { after, limit: 0 })?;
        }
        let mut entries = fetch(Page::default())?;
        entries.reverse();
        let place = after.and_then(|after| entries.iter().position(|entry| id(entry) == after));
        let rest = entries.split_off(place.map_or(0, |place| place + 1));
        Ok(cut(rest, limit))
    }
}

/// The first entries, and whether there are more.
pub(crate) fn cut<T>(mut entries: Vec<T>, limit: usize) -> (Vec<T>, bool) {
    let has_more = entries.len() > limit;
    entries.truncate(limit);
    (entries, has_more)
}

impl IntoResponse for Listed {
    fn into_response(self) -> Response {
        let id = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone());
        let (first, last) = (id(self.data.first()), id(self.data.last()));
        Json(json!({
            "object": "list", "data": self.data, "first_id": first, "last_id": last,
            "has_more": self.has_more,
        }))
        .into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(query: &str) -> Result<Part, ApiError> {
        let mut query = Query::parse(Some(query))?;
        let part = query.ordered_part(20, 100)?;
        query.finish()?;
        Ok(part)
    }

    fn numbers(part: &Part) -> (Vec<u32>, bool) {
        let newest_first = ["5", "4", "3", "2", "1"];
        let fetch = |page: Page<'_>| {
            let place = |id| newest_first.iter().position(|known| *known == id);
            let begin = match page.after {
                None => 0,
                Some(id) => place(id).ok_or(RegistryError::NoFile { id: id.to_owned() })? + 1,
            };
            Ok(newest_first[begin..].iter().take(page.limit as usize).copied().collect())
        };
        let (entries, has_more) = part.read(fetch, |entry| entry).unwrap();
        (entries.into_iter().map(|entry| entry.parse().unwrap()).collect(), has_more)
    }

    #[test]
    fn a_part_is_newest_first_or_oldest_first() {
        for (query, expected, has_more) in [
            ("", &[5, 4, 3, 2, 1][..], false),
            ("limit=2", &[5, 4], true),
            ("after=4&limit=2", &[3, 2], true),
            ("after=3&limit=2", &[2, 1], false),
            ("order=asc&limit=2", &[1, 2], true),
            ("order=asc&limit=2&after=3", &[4, 5], false),
            ("order=asc&after=5", &[], false),
        ] {
            assert_eq!(numbers(&part(query).unwrap()), (expected.to_vec(), has_more), "{query}");
        }
        let unknown = Part { after: Some("9".to_owned()), limit: 1, oldest_first: true };
        let fetch = |page: Page<'_>| match page.after {
            None => Ok(vec![""]),
            Some(id) => Err(RegistryError::NoFile { id: id.to_owned() }),
        };
        assert!(unknown.read(fetch, |entry| entry).is_err());
    }

    #[test]
    fn unknown_and_wrong_parameters_are_refused_by_name() {
        for (query, name) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=", "limit"),
            ("order=up", "order"),
            ("before=x", "before"),
            ("limit=1&limit=2", "limit"),
        ] {
            let error = part(query).unwrap_err().body();
            assert_eq!(error["error"]["param"], name, "{query}");
        }
    }
}
