//! Classes of characters, as Python's `str` has them.

use minijinja::Error;

use crate::python::arguments::invalid;

/// `str.isspace` of a character: Unicode's white space, and four separators of ASCII.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{1c}'..='\u{1f}')
}

/// Whether a letter has a case.
pub(super) fn is_cased(letter: char) -> bool {
    // The last three are titlecase.
    letter.is_lowercase() || letter.is_uppercase() || matches!(letter, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ')
}

/// Whether all characters of a text are in the class of a method such as `isdigit`. Beyond ASCII, the classes of Rust and
/// Python differ, so only those for which they agree are decided.
pub(super) fn is(text: &str, method: &str) -> Result<bool, Error> {
    let is_in: fn(char) -> bool = match method {
        "isspace" => is_space,
        "isalpha" => |c| c.is_ascii_alphabetic() || is_letter(c),
        "isalnum" => |c| c.is_ascii_alphanumeric() || is_letter(c),
        _ => |c| c.is_ascii_digit(),
    };
    let is_unknown = |c: &char| match method {
        _ if c.is_ascii() => false,
        "isspace" => false,
        "isnumeric" => true,
        _ => c.is_alphanumeric() && !is_letter(*c),
    };
    match text.chars().find(is_unknown) {
        Some(letter) => Err(invalid(&format!("`{method}` of {letter:?} is not known"))),
        None => Ok(!text.is_empty() && text.chars().all(is_in)),
    }
}

/// Letters beyond ASCII that are no numbers or marks: those with a case, and the most common scripts without.
fn is_letter(letter: char) -> bool {
    let is_common = matches!(letter,
        '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{481}' | '\u{48a}'..='\u{556}' | '\u{5d0}'..='\u{5ea}'
        | '\u{620}'..='\u{64a}' | '\u{904}'..='\u{939}' | '\u{e01}'..='\u{e30}' | '\u{1e00}'..='\u{1fbc}'
        | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}');
    is_common && letter.is_alphabetic()
}
