/// Rewrites a string literal with Python's escapes for the engine; returns the literal and its value.
///
/// # Errors
/// An escape that Python refuses, a lone surrogate, and `\N{name}`.
pub(crate) fn rewritten(literal: &str) -> Result<(String, String), String> {
    let quote = literal.chars().next().unwrap_or_default();
    let body = literal.strip_prefix(quote).unwrap_or(literal);
    let Some(body) = body.strip_suffix(quote) else {
        return Ok((literal.to_owned(), body.to_owned()));
    };
    if !body.contains('\\') {
        return Ok((literal.to_owned(), body.to_owned()));
    }
    let mut written = String::from('\'');
    let mut value = String::new();
    let mut rest = body;
    while let Some(letter) = rest.chars().next() {
        let begin = value.len();
        let len = match letter {
            '\\' => unescape(rest, &mut value)?,
            _ => {
                value.push(letter);
                letter.len_utf8()
            }
        };
        for c in value[begin..].chars() {
            match c {
                '\\' | '\'' => written.extend(['\\', c]),
                // Newlines in the source stay, because errors name lines.
                '\n' if len > 1 => written.push_str("\\n"),
                _ => written.push(c),
            }
        }
        rest = &rest[len..];
    }
    written.push('\'');
    Ok((written, value))
}

/// Appends the value of the escape at the start of `rest`; returns the number of bytes it takes.
fn unescape(rest: &str, value: &mut String) -> Result<usize, String> {
    let Some(letter) = rest.chars().nth(1) else { return Err(refused(rest)) };
    let simple = match letter {
        '\n' => None,
        '\\' | '\'' | '"' => Some(letter),
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        'x' => return code(rest, 2, 2, 16, value),
        'u' => return code(rest, 2, 4, 16, value),
        'U' => return code(rest, 2, 8, 16, value),
        'N' => return Err(refused(rest)),
        '0'..='7' => {
            let digits = rest[1..].bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b));
            return code(rest, 1, digits.count(), 8, value);
        }
        _ if letter.is_ascii() => {
            value.extend(['\\', letter]);
            return Ok(2);
        }
        // Jinja escapes letters beyond ASCII before it reads escapes, so the backslash escapes that one's backslash.
        _ => {
            value.push_str(&match u32::from(letter) {
                code @ ..0x100 => format!("\\x{code:02x}"),
                code @ ..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            });
            return Ok(1 + letter.len_utf8());
        }
    };
    value.extend(simple);
    Ok(2)
}

/// Appends the character whose code is `n` digits from `at`.
fn code(rest: &str, at: usize, n: usize, radix: u32, value: &mut String) -> Result<usize, String> {
    let digits = rest.get(at..at + n).filter(|digits| digits.chars().all(|c| c.is_digit(radix)));
    let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
    value.push(code.and_then(char::from_u32).ok_or_else(|| refused(rest))?);
    Ok(at + n)
}

fn refused(rest: &str) -> String {
    let escape: String = rest.chars().take(3).collect();
    format!("the escape {escape} in a string literal")
}

#[cfg(test)]
mod tests {
    use super::rewritten;

    /// Expected values: those of jinja2 3.1.6.
    #[test]
    fn escapes_are_those_of_python() {
        for (literal, value) in [
            (r"'\a\b\f\n\r\t\v\0\7'", "\u{7}\u{8}\u{c}\n\r\t\u{b}\0\u{7}"),
            (r"'\x41\u00e9\U0001F600\101\1012'", "Aé😀AA2"),
            (r#""\'\"\\n\/\q\é\😀""#, r#"'"\n\/\q\xe9\U0001f600"#),
            ("'a\\\nb\nc'", "ab\nc"),
            ("'it\\'s \"'", "it's \""),
        ] {
            let (written, found) = rewritten(literal).expect("it is right");
            assert_eq!(found, value);
            let template = format!("{{{{ {written} }}}}");
            let printed = minijinja::render!(&template);
            assert_eq!(printed, value, "{written}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for literal in [r"'\x4'", r"'\u12'", r"'\ud83d\ude00'", r"'\U00110000'", r"'\N{BULLET}'"] {
            assert!(rewritten(literal).is_err(), "{literal}");
        }
    }
}
