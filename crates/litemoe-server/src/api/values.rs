use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Number of values in a JSON document, names of fields included; counts to `max` + 1 at most. A parsed value takes many
/// times the bytes of a short one.
pub(crate) fn count(json: &[u8], max: usize) -> Result<usize, serde_json::Error> {
    let mut counter = Counter { n: 0, max };
    let counted = (&mut counter).deserialize(&mut serde_json::Deserializer::from_slice(json));
    match counted {
        Err(error) if counter.n <= max => Err(error),
        _ => Ok(counter.n),
    }
}

struct Counter {
    n: usize,
    max: usize,
}

impl Counter {
    fn add<E: Error>(&mut self) -> Result<(), E> {
        self.n += 1;
        match self.n > self.max {
            true => Err(E::custom("too many values")),
            false => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Counter {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Counter {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.add()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.add()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.add()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.add()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.add()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.add()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        self.add()?;
        while values.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.add()?;
        while fields.next_key_seed(&mut *self)?.is_some() {
            fields.next_value_seed(&mut *self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_every_name_counts() {
        for (json, n) in [
            ("1", 1),
            ("[]", 1),
            (r#"[1, -1, 0.5, 1e30, "a", true, null, {}]"#, 9),
            (r#"{"a": 1, "b": [2, {"c": "d"}], "a": {}}"#, 11),
            (r#""[1, 2, {\"a\": 3}]""#, 1),
        ] {
            assert_eq!(count(json.as_bytes(), 100).unwrap(), n, "{json}");
            assert_eq!(count(json.as_bytes(), n).unwrap(), n, "{json}");
            assert_eq!(count(json.as_bytes(), n - 1).unwrap(), n, "{json}");
        }
    }

    #[test]
    fn counting_stops_at_the_maximum_and_errors_are_errors() {
        let many = format!("[{}", "0,".repeat(1 << 20));
        assert_eq!(count(many.as_bytes(), 10).unwrap(), 11);
        for json in ["", "[1,", "[1,,2]", "{1: 2}", "\"a", "[nul]"] {
            assert!(count(json.as_bytes(), 10).is_err(), "{json}");
        }
        // Nesting is bounded.
        assert!(count("[".repeat(1 << 20).as_bytes(), 1 << 21).is_err());
    }
}
