/// Text of at most `max` bytes: its beginning, with `…` if it is longer.
pub(crate) fn shorten(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let short = |text: &str, max| shorten(text.to_owned(), max);
        assert_eq!(short("abcdef", 6), "abcdef");
        assert_eq!(short("abcdefg", 6), "abc…");
        assert_eq!(short("aäöüg", 6), "aä…");
        assert_eq!(short("🙂🙂🙂", 7), "🙂…");
    }
}
