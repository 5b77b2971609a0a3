//! The part of a document between `<!-- mark -->` and `<!-- /mark -->`.

use std::ops::Range;

use anyhow::{Result, bail};

/// The text between the marks.
#[cfg(test)]
pub(super) fn find<'a>(document: &'a str, mark: &str) -> Result<&'a str> {
    Ok(&document[range(document, mark)?])
}

/// The document with `text` between the marks.
pub(super) fn replace(document: &str, mark: &str, text: &str) -> Result<String> {
    let Range { start, end } = range(document, mark)?;
    Ok(format!("{}{text}{}", &document[..start], &document[end..]))
}

fn range(document: &str, mark: &str) -> Result<Range<usize>> {
    let (open, close) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->\n"));
    match (single(document, &open), single(document, &close)) {
        (Some(start), Some(end)) if start < end => Ok(start + open.len()..end),
        _ => bail!("the document needs one line {open:?} and, after it, one line {close:?}"),
    }
}

/// Offset of `line`, if it occurs exactly once.
fn single(document: &str, line: &str) -> Option<usize> {
    let mut places = document.match_indices(line).map(|(place, _)| place);
    places.next().filter(|_| places.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_is_found_and_the_rest_is_kept() {
        let document = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        let replaced = replace(document, "x", "new\n").unwrap();
        assert_eq!(find(document, "x").unwrap(), "old\n");
        assert_eq!(replaced, "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n");
    }

    #[test]
    fn a_document_without_both_marks_once_is_refused() {
        for document in [
            "",
            "<!-- x -->\n",
            "<!-- /x -->\n<!-- x -->\n",
            "<!-- x -->\n<!-- x -->\n<!-- /x -->\n",
        ] {
            assert!(find(document, "x").is_err(), "{document:?}");
        }
    }
}
