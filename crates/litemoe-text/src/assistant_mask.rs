//! Assistant masks: which parts of a rendered conversation a template's `{% generation %}` blocks wrote.

use std::ops::Range;

use minijinja::value::Value;
use minijinja::{Environment, Error, State};

use crate::TextError;

/// Name of the filter that a `generation` block becomes; its argument is [`MARKED`].
pub(crate) const FILTER: &str = "litemoe_generation";

/// Variable that says whether the filter marks its block.
pub(crate) const MARKED: &str = "litemoe_marked";

/// Marks of a block's beginning and end: characters that Unicode reserves for use inside programs.
const BEGIN: char = '\u{fdd0}';
const END: char = '\u{fdd1}';

pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter(FILTER, generation);
}

fn generation(state: &State<'_, '_>, block: Value, marked: &Value) -> Result<Value, Error> {
    if !marked.is_true() {
        return Ok(block);
    }
    let text = format!("{BEGIN}{block}{END}");
    state.consume_fuel(text.len() as u64 / 64)?;
    Ok(Value::from_safe_string(text))
}

/// A marked text without its marks, and the byte ranges of the blocks that wrote something, in order.
///
/// # Errors
/// [`TextError::MarkInText`] unless the result is `plain`, the text rendered without marks: the messages then have
/// such a character themselves.
pub(crate) fn unmarked(marked: &str, plain: &str) -> Result<Vec<Range<usize>>, TextError> {
    let (mut text, mut starts, mut blocks) = (String::new(), Vec::new(), Vec::new());
    for character in marked.chars() {
        match character {
            BEGIN => starts.push(text.len()),
            END => blocks.extend(starts.pop().map(|start| start..text.len())),
            _ => text.push(character),
        }
    }
    if text != plain {
        let character = if plain.contains(END) { END } else { BEGIN };
        return Err(TextError::MarkInText { character });
    }
    blocks.retain(|block| !block.is_empty());
    blocks.sort_by_key(|block| block.start);
    Ok(blocks)
}
