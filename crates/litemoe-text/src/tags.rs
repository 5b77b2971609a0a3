//! Rewrites a template's source before it is compiled.

use crate::{assistant_mask, bounded};

/// Rewrites `{% generation %}`, transformers' tag that marks assistant tokens without changing the text, as a block of
/// the filter of [`assistant_mask`], so that white space around it is handled as for any tag; and passes values
/// assigned to variables through a filter of [`bounded`].
pub(crate) fn rewritten(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, opening)) = next_opening(rest) {
        text.push_str(before);
        let body = &rest[before.len() + opening.len()..];
        let Some(end) = end_of(opening, body) else {
            return text + &rest[before.len()..];
        };
        let (inside, after) = body.split_at(end);
        text.push_str(opening);
        match opening {
            "{%" => text.push_str(&rewritten_tag(inside)),
            _ => text.push_str(inside),
        }
        rest = after;
        if opening == "{%" && plain(inside) == "raw" {
            let end = rest.find("endraw").unwrap_or(rest.len());
            text.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    text + rest
}

/// Text before the next tag, expression or comment, and its opening.
fn next_opening(source: &str) -> Option<(&str, &'static str)> {
    let openings = ["{%", "{{", "{#"];
    let next = openings.into_iter().filter_map(|opening| Some((source.find(opening)?, opening)));
    next.min().map(|(at, opening)| (&source[..at], opening))
}

/// Offset of the end of a tag, expression or comment.
fn end_of(opening: &str, body: &str) -> Option<usize> {
    match opening {
        "{#" => body.find("#}"),
        "{%" => outside_strings(body).find(|&(at, _)| body[at..].starts_with("%}")).map(|c| c.0),
        _ => outside_strings(body).find(|&(at, _)| body[at..].starts_with("}}")).map(|c| c.0),
    }
}

/// Characters of code outside string literals, with their offsets.
fn outside_strings(code: &str) -> impl Iterator<Item = (usize, char)> {
    let mut quote = None;
    let mut escaped = false;
    code.char_indices().filter(move |&(_, c)| {
        let inside = quote.is_some();
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            _ => {}
        }
        !inside && quote.is_none()
    })
}

/// A tag's content without its white-space control signs.
fn plain(inside: &str) -> &str {
    inside.trim_matches(['-', '+']).trim()
}

fn rewritten_tag(inside: &str) -> String {
    match plain(inside) {
        "generation" => {
            let filter = format!("filter {}({})", assistant_mask::FILTER, assistant_mask::MARKED);
            inside.replace("generation", &filter)
        }
        "endgeneration" => inside.replace("endgeneration", "endfilter"),
        words => match assignment(words) {
            Some((target, value)) => {
                let filter =
                    if target.contains('.') { bounded::SET_ATTRIBUTE } else { bounded::SET };
                inside.replace(words, &format!("set {target} = ({value})|{filter}"))
            }
            None => inside.to_owned(),
        },
    }
}

/// Target and value of `set target = value`.
fn assignment(words: &str) -> Option<(&str, &str)> {
    let set = words.strip_prefix("set")?.strip_prefix(char::is_whitespace)?;
    // The `=` of a filter's argument, `set target | filter(name=value)`, is in brackets.
    let mut depth = 0;
    let equals = outside_strings(set).find(|&(_, c)| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        c == '=' && depth == 0
    });
    let (at, _) = equals?;
    Some((set[..at].trim(), set[at + 1..].trim()))
}

#[cfg(test)]
mod tests {
    use super::rewritten;

    #[test]
    fn only_tags_are_changed() {
        for same in [
            "{{ '{% set a = 1 %}' }} {# {% set a = 1 %} #}",
            "{% raw %}{% set a = 1 %}{% endraw %}",
            "{% set a %}{% endset %}{% set a | replace(x='=') %}{% if a == 1 %}",
            "{% set a = 1",
            "%} }} #} 'it''s {",
        ] {
            assert_eq!(rewritten(same), same);
        }
    }

    #[test]
    fn values_of_variables_go_through_a_filter() {
        for (tag, written) in [
            ("{%- set a = 1 -%}", "{%- set a = (1)|litemoe_set -%}"),
            ("{%set a,b=1,2%}", "{%set a,b = (1,2)|litemoe_set%}"),
            (
                "{% set n.a = '%}' ~ \"\\\"=\" %}",
                "{% set n.a = ('%}' ~ \"\\\"=\")|litemoe_set_attribute %}",
            ),
            ("{%- generation +%}", "{%- filter litemoe_generation(litemoe_marked) +%}"),
        ] {
            assert_eq!(rewritten(tag), written);
        }
    }
}
