use std::collections::BTreeMap;

use axum::Json;
use axum::response::{IntoResponse, Response};
use litemoe_registry::{Order, Page, RegistryError};
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
        Ok(Part { after: self.take("after"), limit, order: Order::default() })
    }

    /// The same, of a list that can begin with its oldest entry.
    pub(crate) fn ordered_part(&mut self, usual: u32, most: u32) -> Result<Part, ApiError> {
        let order = match self.take("order").as_deref() {
            None | Some("desc") => Order::NewestFirst,
            Some("asc") => Order::OldestFirst,
            Some(_) => return Err(wrong("order", "`asc` or `desc`")),
        };
        Ok(Part { order, ..self.part(usual, most)? })
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
    order: Order,
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
    /// Reads the part, and whether others come after it.
    pub(crate) fn read<T>(
        &self,
        fetch: impl FnOnce(Page<'_>) -> Result<Vec<T>, RegistryError>,
    ) -> Result<(Vec<T>, bool), RegistryError> {
        let limit = self.limit.saturating_add(1);
        let entries = fetch(Page { after: self.after.as_deref(), limit, order: self.order })?;
        Ok(cut(entries, self.limit as usize))
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

    #[test]
    fn a_part_reads_one_entry_more_than_it_has() {
        for (query, after, limit, order) in [
            ("", None, 20, Order::NewestFirst),
            ("limit=2&after=x", Some("x"), 2, Order::NewestFirst),
            ("order=desc", None, 20, Order::NewestFirst),
            ("order=asc&limit=1&after=x", Some("x"), 1, Order::OldestFirst),
        ] {
            for n_left in 0..3 {
                let fetch = |page: Page<'_>| {
                    assert_eq!(page, Page { after, limit: limit + 1, order }, "{query}");
                    Ok(vec![(); page.limit.min(n_left) as usize])
                };
                let (entries, has_more) = part(query).unwrap().read(fetch).unwrap();
                let expected = (n_left.min(limit) as usize, n_left > limit);
                assert_eq!((entries.len(), has_more), expected, "{query}");
            }
        }
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
