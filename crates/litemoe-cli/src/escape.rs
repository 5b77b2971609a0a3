use std::borrow::Cow;

/// Text without control characters other than newline and tab: a file could hold a terminal's escape sequences. Each is
/// replaced by its escape in JSON, so JSON stays the same value.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_control) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match is_control(c) {
            true => plain += &format!("\\u{:04x}", u32::from(c)),
            false => plain.push(c),
        }
    }
    plain.into()
}
