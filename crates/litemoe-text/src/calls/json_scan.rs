/// Finds the end of a JSON object in text that grows.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonScan {
    /// Bytes that were looked at.
    at: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl JsonScan {
    /// Byte offset after the object that `text` begins with, a text that begins like the last one; `None` while it is not
    /// complete.
    pub(super) fn end(&mut self, text: &str) -> Option<usize> {
        for &byte in &text.as_bytes()[self.at..] {
            self.at += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 {
                return Some(self.at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::JsonScan;

    #[test]
    fn an_object_ends_with_its_brace_however_the_text_grows() {
        for (text, end) in [
            ("{}x", Some(2)),
            (r#"{"a": "}\"{", "b": [1, {}]} {"#, Some(27)),
            (r#"{"a\\": "}"}"#, Some(12)),
            (r#"{"a": {"#, None),
            ("x", Some(1)),
            ("", None),
        ] {
            assert_eq!(JsonScan::default().end(text), end, "{text}");
            let mut scan = JsonScan::default();
            let found = (0..=text.len()).find_map(|n| scan.end(&text[..n]));
            assert_eq!(found, end, "{text}");
        }
    }
}
