//! Rewrites a template's source before it is compiled.

use std::collections::HashSet;

use crate::{assistant_mask, bounded, code};

/// Maximum `elif` of a template, each of which the engine nests in the one before.
const MAX_ELIFS: usize = 400;

/// Rewrites a template for the engine: newlines and string literals as Python reads them; `{% generation %}`,
/// transformers' tag that marks assistant tokens without changing the text, as a scope with a block of the filter of
/// [`assistant_mask`]; values assigned to variables through a filter of [`bounded`]; and expressions as [`code`] does.
///
/// # Errors
/// What the engine cannot have or would compute otherwise, with its line: a string literal, `autoescape`, and a `with`
/// whose value names an earlier target. What would overflow the engine's stack: a long expression, also of a tag without
/// an end, and more than [`MAX_ELIFS`].
pub(crate) fn rewritten(source: &str) -> Result<String, String> {
    if source.matches("elif").count() > MAX_ELIFS {
        return Err(format!("more than {MAX_ELIFS} `elif`"));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut text = String::with_capacity(source.len());
    let mut rest = &*source;
    while let Some((before, opening)) = next_opening(rest) {
        text.push_str(before);
        let body = &rest[before.len() + opening.len()..];
        let in_line = |reason| {
            let line = source[..source.len() - body.len()].matches('\n').count() + 1;
            format!("{reason} (in a tag or expression that begins in line {line})")
        };
        let Some(end) = end_of(opening, body) else {
            if opening != "{#" {
                code::rewritten(body).map_err(in_line)?;
            }
            return Ok(text + &rest[before.len()..]);
        };
        let (inside, after) = body.split_at(end);
        text.push_str(opening);
        match opening {
            "{%" => text.push_str(&rewritten_tag(inside).map_err(in_line)?),
            "{{" => {
                let (start, code, end) = signs(inside);
                text.extend([start, &code::rewritten(code).map_err(in_line)?, end]);
            }
            _ => text.push_str(inside),
        }
        rest = after;
        if opening == "{%" && signs(inside).1.trim() == "raw" {
            let end = rest.find("endraw").unwrap_or(rest.len());
            text.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    Ok(text + rest)
}

/// Text before the next tag, expression or comment, and its opening.
fn next_opening(source: &str) -> Option<(&str, &'static str)> {
    source.match_indices('{').find_map(|(at, _)| {
        let opening = match source.as_bytes().get(at + 1)? {
            b'%' => "{%",
            b'{' => "{{",
            b'#' => "{#",
            _ => return None,
        };
        Some((&source[..at], opening))
    })
}

/// Offset of the end of a tag, expression or comment. Closing braces in brackets are not the end.
fn end_of(opening: &str, body: &str) -> Option<usize> {
    let closing = match opening {
        "{#" => return body.find("#}"),
        "{%" => "%}",
        _ => "}}",
    };
    let mut depth = 0_usize;
    outside_strings(body)
        .find(|&(at, c)| {
            let is_end = depth == 0 && body[at..].starts_with(closing);
            match c {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            is_end
        })
        .map(|(at, _)| at)
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

/// Splits a tag's content into its white-space control sign, the rest, and the sign at the end.
fn signs(inside: &str) -> (&str, &str, &str) {
    let is_sign = ['-', '+'];
    let start = usize::from(inside.starts_with(is_sign));
    let end = inside.len() - usize::from(inside.len() > start && inside.ends_with(is_sign));
    (&inside[..start], &inside[start..end], &inside[end..])
}

fn rewritten_tag(inside: &str) -> Result<String, String> {
    let (start, body, end) = signs(inside);
    let words = body.trim();
    let body = match words {
        "generation" => {
            let (filter, marked) = (assistant_mask::FILTER, assistant_mask::MARKED);
            body.replace("generation", &format!("with %}}{{% filter {filter}({marked})"))
        }
        "endgeneration" => body.replace("endgeneration", "endfilter %}{% endwith"),
        _ => match assignment(words) {
            Some((target, value)) => {
                let filter =
                    if target.contains('.') { bounded::SET_ATTRIBUTE } else { bounded::SET };
                code::rewritten(target)?;
                let value = code::rewritten(value)?;
                body.replace(words, &format!("set {target} = ({value})|{filter}"))
            }
            None => {
                let before = body.len() - body.trim_start().len();
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = words.find(|c| !is_word(c)).unwrap_or(words.len());
                let (name, code) = body.split_at(before + name);
                match name.trim() {
                    "autoescape" => return Err("the tag autoescape".to_owned()),
                    "with" => {
                        check_with(code)?;
                        name.to_owned() + &code::rewritten(code)?
                    }
                    "set" => {
                        code::rewritten(code)?;
                        body.to_owned()
                    }
                    "for" => name.to_owned() + &code::rewritten_loop(code)?,
                    _ => name.to_owned() + &code::rewritten(code)?,
                }
            }
        },
    };
    Ok([start, &body, end].concat())
}

/// Checks that no value of `with a = …, b = …` names an earlier target: Jinja computes all values outside the block, the
/// engine one after another.
fn check_with(code: &str) -> Result<(), String> {
    let mut targets: HashSet<&str> = HashSet::new();
    for assignment in parts(code, ',') {
        let Some((target, value)) = assignment.split_once('=') else { continue };
        if let Some(name) = names(value).find(|name| targets.contains(name)) {
            return Err(format!("a value of `with` that names its target {name}"));
        }
        targets.extend(names(target));
    }
    Ok(())
}

/// Parts of code between a separator outside brackets and string literals.
fn parts(code: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in outside_strings(code) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ if c == separator && depth == 0 => {
                parts.push(&code[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&code[start..]);
    parts
}

/// Words of code outside string literals, without those after a dot.
fn names(code: &str) -> impl Iterator<Item = &str> {
    let mut outside = vec![false; code.len()];
    for (at, _) in outside_strings(code) {
        outside[at] = true;
    }
    let words = code.match_indices(|c: char| c.is_alphanumeric() || c == '_');
    let begins = words.filter_map(move |(at, _)| {
        let before = code[..at].chars().next_back();
        let is_inside = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (outside[at] && !is_inside && !code[..at].trim_end().ends_with('.')).then_some(at)
    });
    begins.map(|at| {
        let word = &code[at..];
        &word[..word.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(word.len())]
    })
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
            "{{ {'a': {'b': {}}} }}{{- -1 -}}{%+ if {'a':1}['a'] -%}{{ x['y'].z }}",
        ] {
            assert_eq!(rewritten(same).expect("it has right literals"), same);
        }
    }

    #[test]
    fn values_of_variables_go_through_a_filter() {
        for (tag, written) in [
            ("{%- set a = 1 -%}", "{%- set a = (1)|litemoe_set -%}"),
            ("{%set a,b=1,2%}", "{%set a,b = (1,2)|litemoe_set%}"),
            (
                "{% set n.a = '%}' ~ \"\\\"=\" %}",
                "{% set n.a = ('%}' ~ '\"=')|litemoe_set_attribute %}",
            ),
            ("{%- generation +%}", "{%- with %}{% filter litemoe_generation(litemoe_marked) +%}"),
            ("{% endgeneration -%}", "{% endfilter %}{% endwith -%}"),
            ("a\r\nb\rc", "a\nb\nc"),
        ] {
            assert_eq!(rewritten(tag).expect("it has right literals"), written);
        }
    }

    #[test]
    fn a_bad_literal_is_named_with_its_line() {
        let error = rewritten("a\n{{ 1 }}\r{% if x == '\\xg' %}").expect_err("it is wrong");
        assert_eq!(
            error,
            "the escape \\xg in a string literal (in a tag or expression that begins in line 3)"
        );
    }
}
