//! Rewrites the expressions of a template.

use std::mem;

use crate::{bounded, literal, python};

/// Maximum depth of brackets, and number of methods after one value: more than the engine's parser takes.
const MAX_DEPTH: usize = 200;

/// Maximum operators, attributes, calls and filters in a row, those around a bracket included. The engine's tree of an
/// expression is that deep, and it builds and frees it by recursion.
const MAX_LINKS: usize = 400;

/// Rewrites an expression so that the engine computes what Jinja does:
///
/// - string literals have Python's escapes;
/// - the operands of `~` become text by a filter, as Python's `str` does it;
/// - what is compared, one operand of a comparison, both of `in` and the arguments of `changed`, and keys pass through the
///   filter that bounds values, unless they are literal texts or numbers: the engine's steps do not count nested items;
/// - `a.items`, a method that is not called, and `a['items']` become filters, because in Python a method hides the key or
///   the missing key.
///
/// # Errors
/// A string literal that the engine cannot have, brackets deeper than [`MAX_DEPTH`], and more than [`MAX_LINKS`].
pub(crate) fn rewritten(code: &str) -> Result<String, String> {
    of_frame(code, Frame::default())
}

/// As [`rewritten`], for the targets and the iterated value of `for`, whose first `in` compares nothing.
pub(crate) fn rewritten_loop(code: &str) -> Result<String, String> {
    of_frame(code, Frame { is_loop: true, ..Frame::default() })
}

fn of_frame(code: &str, mut frame: Frame) -> Result<String, String> {
    let mut frames = Vec::new();
    let mut rest = code;
    while let Some(token) = Token::first(rest, frame.last == Last::Dot) {
        let (text, after) = rest.split_at(token.len);
        let is_called = after.trim_start().starts_with('(');
        rest = after;
        match token.kind {
            Kind::Space => frame.out.push_str(text),
            Kind::Open => {
                let is_postfix = match text {
                    "(" => matches!(frame.last, Last::Operand | Last::Test),
                    _ => frame.last == Last::Operand,
                };
                if !is_postfix {
                    frame.begin_operand();
                }
                frame.n_tokens += 1;
                frame.link()?;
                if frames.len() == MAX_DEPTH {
                    return Err(too_deep());
                }
                let inner = Frame { n_links_around: frame.n_links_in_all(), ..Frame::default() };
                let inner = Frame {
                    is_dict: text == "{",
                    is_changed: is_postfix && text == "(" && frame.out.ends_with("changed"),
                    ..inner
                };
                frames.push((mem::replace(&mut frame, inner), text, is_postfix));
            }
            Kind::Close => {
                let Some((outer, open, is_postfix)) = frames.pop() else {
                    frame.out.push_str(text);
                    continue;
                };
                let mut inner = mem::replace(&mut frame, outer);
                inner.end_comparand(inner.is_compared);
                let is_key = is_postfix && open == "[";
                let is_item = is_key && inner.n_tokens == 1 && !is_called;
                if is_key && !inner.is_slice {
                    inner.bound(0);
                }
                if inner.is_changed {
                    inner.bound(inner.item);
                }
                match inner.literal.filter(|name| is_item && python::is_method(name)) {
                    Some(_) => frame.wrap(frame.out.len(), python::ITEM, inner.out.trim())?,
                    None => frame.out.extend([open, &inner.out, text]),
                }
                frame.last = Last::Operand;
            }
            Kind::Text => {
                frame.begin_operand();
                let (written, value) = literal::rewritten(text)?;
                frame.out.push_str(&written);
                frame.n_tokens += 1;
                frame.literal = Some(value);
            }
            Kind::Number => {
                if frame.last != Last::Dot {
                    frame.begin_operand();
                }
                frame.push(text, Last::Operand);
            }
            Kind::Name => frame.name(text, is_called)?,
            Kind::Symbol => frame.symbol(text)?,
        }
    }
    frame.end_comparand(frame.is_compared);
    // Brackets without an end are the engine's error.
    for (mut outer, open, _) in frames.into_iter().rev() {
        outer.out.extend([open, &frame.out]);
        frame = outer;
    }
    Ok(frame.out)
}

/// What the last token was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Last {
    /// Nothing, or an operator after which an operand follows.
    #[default]
    Operator,
    /// The end of an operand, or of a part of it.
    Operand,
    Dot,
    /// `|`, after which a filter's name follows.
    Pipe,
    /// `is`, after which a test's name follows.
    Is,
    /// A test's name, after which an argument may follow.
    Test,
}

/// Code between two brackets.
#[derive(Debug, Default)]
struct Frame {
    out: String,
    last: Last,
    /// Start of the operand of `~`, if it is one.
    start: usize,
    /// Whether that operand follows a `~`.
    after_tilde: bool,
    /// Start of the operand of a comparison or `in`, if it is one.
    comparand: usize,
    /// Whether that operand follows a comparison or `in`.
    is_compared: bool,
    /// Start of the item after the last comma.
    item: usize,
    /// Whether the brackets are those of a dict, or of a call of `changed`.
    is_dict: bool,
    is_changed: bool,
    /// Whether there is a colon.
    is_slice: bool,
    /// Whether an `in` may follow that belongs to `for`.
    is_loop: bool,
    /// Number of the operand's tokens.
    n_tokens: usize,
    /// The operand's last string literal.
    literal: Option<String>,
    /// Start of the value to which attributes and items belong.
    value: usize,
    /// The last dot.
    dot: usize,
    /// Number of filters around that value.
    n_wrapped: usize,
    /// Number of links since the last comma or colon.
    n_links: usize,
    /// Number of links around the brackets.
    n_links_around: usize,
}

impl Frame {
    fn push(&mut self, text: &str, last: Last) {
        self.out.push_str(text);
        self.n_tokens += 1;
        self.last = last;
    }

    fn n_links_in_all(&self) -> usize {
        self.n_links_around + self.n_links
    }

    /// Counts a part of an expression that makes the engine's tree deeper.
    fn link(&mut self) -> Result<(), String> {
        self.n_links += 1;
        match self.n_links_in_all() > MAX_LINKS {
            true => Err(format!("an expression of more than {MAX_LINKS} operators in a row")),
            false => Ok(()),
        }
    }

    /// A value begins, to which attributes and items may follow.
    fn begin_operand(&mut self) {
        self.value = self.out.len();
        self.n_wrapped = 0;
        self.last = Last::Operand;
    }

    /// The operand of `~` ends, if it is one.
    fn end_operand(&mut self, before_tilde: bool) {
        let is_literal = self.n_tokens == 1 && self.literal.is_some();
        if (self.after_tilde || before_tilde) && self.n_tokens > 0 && !is_literal {
            let operand = self.out.split_off(self.start);
            let code = operand.trim();
            let (before, after) = operand.split_once(code).unwrap_or_default();
            self.out.extend([before, "(", code, ")|", python::TEXT, after]);
        }
    }

    /// The operand of a comparison ends, if it is one, and with it that of `~`.
    fn end_comparand(&mut self, is_one: bool) {
        self.end_operand(false);
        if is_one {
            self.bound(self.comparand);
        }
    }

    /// Passes the code from `start` on through the filter that bounds values.
    fn bound(&mut self, start: usize) {
        let operand = self.out.split_off(start);
        let code = operand.trim();
        if code.is_empty() || is_scalar(code) {
            return self.out.push_str(&operand);
        }
        let (before, after) = operand.split_once(code).unwrap_or_default();
        self.out.extend([before, "(", code, ")|", bounded::SET, after]);
    }

    /// An operator that binds no stronger than `~`, or the like.
    fn boundary(&mut self, text: &str) {
        let is_tilde = text == "~";
        let is_in = match text {
            "in" => !mem::take(&mut self.is_loop),
            // Of `not in`: another `not` follows no operand.
            "not" => matches!(self.last, Last::Operand | Last::Test),
            _ => false,
        };
        match text {
            "~" | "+" | "-" => self.end_operand(is_tilde),
            _ => {
                self.end_comparand(self.is_compared || is_in);
                if text == ":" && self.is_dict || text == "," && self.is_changed {
                    self.bound(self.item);
                }
            }
        }
        self.out.push_str(text);
        self.start = self.out.len();
        if !matches!(text, "~" | "+" | "-") {
            self.comparand = self.start;
            self.is_compared = matches!(text, "==" | "!=" | "<" | "<=" | ">" | ">=");
            self.is_compared |= is_in && text == "in";
        }
        if text == "," {
            self.item = self.start;
        }
        self.is_slice |= text == ":";
        self.value = self.out.len();
        self.after_tilde = is_tilde;
        self.n_tokens = 0;
        self.literal = None;
        self.last = Last::Operator;
    }

    fn name(&mut self, name: &str, is_called: bool) -> Result<(), String> {
        if matches!(name, "and" | "or" | "not" | "if" | "else" | "in" | "is") {
            self.link()?;
        }
        match (self.last, name) {
            (Last::Dot, _) => {
                let is_loop = &self.out[self.value..self.dot] == "loop";
                if python::is_method(name) && !is_called && !is_loop {
                    let end = self.dot;
                    self.wrap(end, python::ATTRIBUTE, &format!("'{name}'"))?;
                    self.last = Last::Operand;
                } else {
                    self.push(name, Last::Operand);
                }
            }
            (Last::Pipe, _) => self.push(name, Last::Operand),
            (Last::Is, "not") => self.push(name, Last::Is),
            (Last::Is, _) => self.push(name, Last::Test),
            (Last::Operand | Last::Test, "is") => self.push(name, Last::Is),
            (_, "and" | "or" | "not" | "if" | "else" | "in") => self.boundary(name),
            _ => {
                self.begin_operand();
                self.push(name, Last::Operand);
            }
        }
        Ok(())
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), String> {
        match symbol {
            "," | ":" => self.n_links = 0,
            _ => self.link()?,
        }
        match symbol {
            "." => {
                self.dot = self.out.len();
                self.push(symbol, Last::Dot);
            }
            "|" => self.push(symbol, Last::Pipe),
            "-" if !matches!(self.last, Last::Operand | Last::Test) => {
                self.push(symbol, Last::Operator);
            }
            "*" | "**" | "/" | "//" | "%" => self.push(symbol, Last::Operator),
            _ => self.boundary(symbol),
        }
        Ok(())
    }

    /// Passes the last value, up to `end`, through a filter.
    fn wrap(&mut self, end: usize, filter: &str, argument: &str) -> Result<(), String> {
        if self.n_wrapped == MAX_DEPTH {
            return Err(too_deep());
        }
        self.n_wrapped += 1;
        self.out.truncate(end);
        let value = self.out.split_off(self.value);
        self.out.extend(["(", value.trim_end(), "|", filter, "(", argument, "))"]);
        Ok(())
    }
}

/// Whether code is a literal text, a number or the name of a constant.
fn is_scalar(code: &str) -> bool {
    let len = match code.chars().next() {
        Some(quote @ ('\'' | '"')) => literal_len(code, quote),
        Some('0'..='9') => number_len(code),
        _ => return matches!(code, "true" | "True" | "false" | "False" | "none" | "None"),
    };
    len == code.len()
}

fn too_deep() -> String {
    format!("an expression of more than {MAX_DEPTH} levels")
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Space,
    Name,
    Number,
    /// String literal.
    Text,
    Open,
    Close,
    Symbol,
}

struct Token {
    kind: Kind,
    len: usize,
}

impl Token {
    /// The first token of code; `None` at its end.
    fn first(code: &str, after_dot: bool) -> Option<Self> {
        let first = code.chars().next()?;
        let run = |is_part: fn(char) -> bool| code.find(|c| !is_part(c)).unwrap_or(code.len());
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (kind, len) = match first {
            c if c.is_whitespace() => (Kind::Space, run(char::is_whitespace)),
            '0'..='9' if after_dot => (Kind::Number, run(|c| c.is_ascii_digit())),
            '0'..='9' => (Kind::Number, number_len(code)),
            c if is_word(c) => (Kind::Name, run(is_word)),
            '"' | '\'' => (Kind::Text, literal_len(code, first)),
            '(' | '[' | '{' => (Kind::Open, 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            _ => {
                let long = ["**", "//", "==", "!=", "<=", ">="];
                let is_long = long.iter().any(|symbol| code.starts_with(symbol));
                (Kind::Symbol, if is_long { 2 } else { first.len_utf8() })
            }
        };
        Some(Self { kind, len })
    }
}

fn number_len(code: &str) -> usize {
    let bytes = code.as_bytes();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_hex = bytes.starts_with(b"0x") || bytes.starts_with(b"0X");
    let mut len = 1;
    while let Some(&byte) = bytes.get(len) {
        let digit_follows = bytes.get(len + 1).is_some_and(u8::is_ascii_digit);
        let is_exponent = matches!(bytes[len - 1], b'e' | b'E') && !is_hex;
        match byte {
            b'.' if digit_follows => {}
            b'+' | b'-' if is_exponent && digit_follows => {}
            _ if is_part(byte) => {}
            _ => break,
        }
        len += 1;
    }
    len
}

fn literal_len(code: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = code.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(code.len(), |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::{rewritten, rewritten_loop};

    #[test]
    fn operands_of_concatenation_become_text() {
        for (code, written) in [
            ("a ~ 'b' ~ -c.d", "(a)|litemoe_text ~ 'b' ~ (-c.d)|litemoe_text"),
            (
                "a + b * 2 ~ c|f(x ~ 1) - d",
                "a + (b * 2)|litemoe_text ~ (c|f((x)|litemoe_text ~ (1)|litemoe_text))|litemoe_text - d",
            ),
            (
                "not a ~ b is not none and c",
                "not (a)|litemoe_text ~ (b is not none)|litemoe_text and c",
            ),
            ("f(k=a ~ 1.5, x)", "f(k=(a)|litemoe_text ~ (1.5)|litemoe_text, x)"),
            ("1e-5 - 2 if a else c", "1e-5 - 2 if a else c"),
            ("a ~ (b", "(a)|litemoe_text ~ (b"),
            ("a ~", "(a)|litemoe_text ~"),
        ] {
            assert_eq!(rewritten(code).expect("it has right literals"), written);
        }
    }

    #[test]
    fn what_is_compared_is_bounded() {
        for (code, written) in [
            ("a == b", "a == (b)|litemoe_set"),
            ("a.role == 'user' and b!=-1", "a.role == 'user' and b!=(-1)|litemoe_set"),
            ("a < 1 <= none or 'x' >= b.c", "a < 1 <= none or 'x' >= (b.c)|litemoe_set"),
            ("1 == 'a' + b", "1 == ('a' + b)|litemoe_set"),
            ("a == b + c ~ 'd' if e", "a == (b + (c)|litemoe_text ~ 'd')|litemoe_set if e"),
            ("'a' in b", "'a' in (b)|litemoe_set"),
            (
                "not a not in [b, c == d]",
                "not (a)|litemoe_set not in ([b, c == (d)|litemoe_set])|litemoe_set",
            ),
            ("f(x == y, k=z)", "f(x == (y)|litemoe_set, k=z)"),
            ("a == b|sort|length", "a == (b|sort|length)|litemoe_set"),
            (
                "loop.changed(a, b + 1, 'c')",
                "loop.changed((a)|litemoe_set, (b + 1)|litemoe_set, 'c')",
            ),
            ("a is in b and c == d is none", "a is in b and c == (d is none)|litemoe_set"),
            ("a['b'][0][c if d else e]", "a['b'][0][(c if d else e)|litemoe_set]"),
            ("a[b:c]", "a[b:c]"),
            ("{'a': b, c if d else e: f}", "{'a': b, (c if d else e)|litemoe_set: f}"),
            ("a == ", "a == "),
        ] {
            assert_eq!(rewritten(code).expect("it has right literals"), written);
        }
        let code = " a in b if a in c";
        let written = " a in b if (a)|litemoe_set in (c)|litemoe_set";
        assert_eq!(rewritten_loop(code).expect("it has right literals"), written);
    }

    #[test]
    fn methods_hide_keys() {
        for (code, written) in [
            ("a.b.items", "(a.b|litemoe_attribute('items'))"),
            ("a['items'] .x", "(a|litemoe_item('items')) .x"),
            ("a[\"items\"]['type']", "(a|litemoe_item(\"items\"))['type']"),
            ("-f(x)[0].get.y", "-(f(x)[0]|litemoe_attribute('get')).y"),
            ("a is in ['items']", "a is in ['items']"),
            ("a.items() | items | f(loop.index)", "a.items() | items | f(loop.index)"),
            ("items['item'] + a[1] + ['items']", "items['item'] + a[1] + ['items']"),
        ] {
            assert_eq!(rewritten(code).expect("it has right literals"), written);
        }
    }
}
