//! The syntax that Python's `re` and `fancy-regex` share.
//!
//! Much of what only one of them has is read by the other as something else: `[[:alpha:]]` is a set of characters and a
//! `]` in Python, `\<` a character, `(?i)` in the middle an error. So everything outside the shared syntax is refused.

use std::collections::BTreeMap;

/// Flags that mean the same: ignore case, `^` and `$` at lines, `.` matches newlines.
const FLAGS: &[u8] = b"ims";

/// Checks that `fancy-regex`, if it compiles a pattern, reads it as Python 3.10 and later do. Some look-behinds whose
/// width varies are accepted, which Python refuses.
///
/// # Errors
/// What is wrong and where, for [`AdapterError::Pattern`](crate::AdapterError).
pub(super) fn check(pattern: &str) -> Result<(), String> {
    if !pattern.is_ascii() {
        return Err("only ASCII characters are supported".to_owned());
    }
    let mut scan = Scan { rest: pattern, ..Scan::default() };
    if let Some((flags, rest)) = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')'))
        && are_flags(flags)
    {
        scan.rest = rest; // global flags, which Python allows only here
    }
    let end = |scan: &Scan<'_>| pattern.len() - scan.rest.len();
    while let Some(char) = scan.next() {
        let start = end(&scan) - 1;
        scan.part(char)
            .map_err(|problem| format!("`{}` {problem}", &pattern[start..end(&scan)]))?;
    }
    match scan.open.last() {
        Some(_) => Err("a group is not closed".to_owned()),
        None => Ok(()),
    }
}

fn are_flags(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| FLAGS.contains(&byte))
}

/// Reads a pattern from left to right.
#[derive(Default)]
struct Scan<'p> {
    rest: &'p str,
    /// Whether a quantifier may follow.
    is_repeatable: bool,
    /// Open groups: their numbers, if they capture.
    open: Vec<Option<usize>>,
    /// By number from 1: whether the group is closed.
    closed: Vec<bool>,
    names: BTreeMap<&'p str, usize>,
}

impl<'p> Scan<'p> {
    fn next(&mut self) -> Option<u8> {
        let (&first, _) = self.rest.as_bytes().split_first()?;
        self.rest = &self.rest[1..];
        Some(first)
    }

    fn skip(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_while(&mut self, is_in: impl Fn(char) -> bool) -> &'p str {
        let end = self.rest.find(|char| !is_in(char)).unwrap_or(self.rest.len());
        let (skipped, rest) = self.rest.split_at(end);
        self.rest = rest;
        skipped
    }

    fn part(&mut self, char: u8) -> Result<(), &'static str> {
        match char {
            b'\\' => return self.escape(),
            b'[' => self.class()?,
            b'(' => return self.group(),
            b')' => {
                let group = self.open.pop().ok_or("closes no group")?;
                group.into_iter().for_each(|number| self.closed[number - 1] = true);
            }
            b'*' | b'+' | b'?' => return self.quantifier(),
            b'{' => {
                let min = self.skip_while(|char| char.is_ascii_digit());
                let max = self.skip(",").then(|| self.skip_while(|char| char.is_ascii_digit()));
                let is_empty = min.is_empty() && max.is_none_or(str::is_empty);
                if is_empty || !self.skip("}") {
                    return Err("is no quantifier; a brace is written `\\{`");
                }
                return self.quantifier();
            }
            b'|' | b'^' | b'$' => {
                self.is_repeatable = false;
                return Ok(());
            }
            _ => {}
        }
        self.is_repeatable = true;
        Ok(())
    }

    /// After a quantifier. Possessive ones are new in Python 3.11.
    fn quantifier(&mut self) -> Result<(), &'static str> {
        if !self.is_repeatable {
            return Err("repeats nothing, or what is repeated already");
        }
        self.skip("?");
        self.is_repeatable = false;
        Ok(())
    }

    /// After a backslash outside a class.
    fn escape(&mut self) -> Result<(), &'static str> {
        let char = self.next().ok_or("escapes nothing")?;
        self.is_repeatable = !b"AbBZ".contains(&char);
        match char {
            b'1'..=b'9' => {
                let more = self.skip_while(|char| char.is_ascii_digit());
                let number = (more.len() < 2).then(|| more.parse().unwrap_or(0));
                let tens = if more.is_empty() { 1 } else { 10 };
                let number = number.map(|ones: usize| usize::from(char - b'0') * tens + ones);
                self.back_reference(number)
            }
            b'A' | b'b' | b'B' | b'Z' => Ok(()),
            b'<' | b'>' => Err("is no escape here"),
            _ => self.character(char),
        }
    }

    /// After a backslash and a character: escapes inside and outside classes.
    fn character(&mut self, char: u8) -> Result<(), &'static str> {
        match char {
            b'x' => {
                let digits = self.rest.as_bytes().get(..2);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err("needs two hexadecimal digits");
                }
                self.rest = &self.rest[2..];
                Ok(())
            }
            _ if b"afnrtvdDsSwW".contains(&char) || !char.is_ascii_alphanumeric() => Ok(()),
            _ => Err("is no escape that Python and this program share"),
        }
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), &'static str> {
        self.skip("^");
        if self.skip("]") && self.rest.starts_with('-') {
            return Err("has a range that begins with `]`; it is written `\\]`");
        }
        let mut before = 0;
        loop {
            match self.next().ok_or("is not closed")? {
                b']' => return Ok(()),
                b'[' => return Err("has a bracket inside; it is written `\\[`"),
                b'\\' => {
                    let char = self.next().ok_or("is not closed")?;
                    if char != b'b' {
                        self.character(char)?;
                    }
                    before = 0;
                }
                char if char == before && b"&-~|".contains(&char) => {
                    return Err("has a set operation, which Python lacks");
                }
                char => before = char,
            }
        }
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), &'static str> {
        if self.skip("?#") {
            let comment = self.skip_while(|char| char != ')');
            return match self.skip(")") && !comment.contains('\\') {
                true => Ok(()),
                false => Err("is no comment without backslashes"),
            };
        }
        if self.skip("?P=") {
            let name = self.skip_while(|char| char != ')');
            self.is_repeatable = true;
            self.skip(")");
            return self.back_reference(self.names.get(name).copied());
        }
        self.is_repeatable = false;
        let number = if self.skip("?P<") {
            let name = self.skip_while(|char| char != '>');
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !self.skip(">") || !is_name || name.bytes().next().is_none_or(|b| b.is_ascii_digit())
            {
                return Err("has no group name");
            }
            if self.names.insert(name, self.closed.len() + 1).is_some() {
                return Err("names a second group so");
            }
            Some(self.capture())
        } else if ["?:", "?=", "?!", "?<=", "?<!"].into_iter().any(|start| self.skip(start)) {
            None
        } else if self.skip("?") {
            let flags = self.skip_while(|char| char != ':' && char != ')');
            let (on, off) =
                flags.split_once('-').map_or((flags, None), |(on, off)| (on, Some(off)));
            let is_on = |flag: char| on.contains(flag);
            if !self.skip(":")
                || !(on.is_empty() || are_flags(on))
                || off.is_some_and(|off| !are_flags(off) || off.contains(is_on))
            {
                return Err("begins no group that Python and this program share");
            }
            None
        } else {
            Some(self.capture())
        };
        self.open.push(number);
        Ok(())
    }

    fn capture(&mut self) -> usize {
        self.closed.push(false);
        self.closed.len()
    }

    fn back_reference(&self, number: Option<usize>) -> Result<(), &'static str> {
        let is_closed = number.is_some_and(|number| self.closed.get(number - 1) == Some(&true));
        if is_closed { Ok(()) } else { Err("refers to no closed group") }
    }
}
