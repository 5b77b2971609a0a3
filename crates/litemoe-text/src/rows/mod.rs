//! Reading of rows from files as people have them.

mod error;
mod json;
mod keys;
mod messages;
mod object;
mod read_row;
mod recognise;
mod shape;
mod table;
mod text;
mod value;

use std::path::Path;

use litemoe_files::read_limited;

pub use self::error::RowError;
use self::json::NotItems;
pub(crate) use self::messages::{checked_documents, checked_tools, prompt_messages};
use self::object::Object;
pub(crate) use self::object::wrong_type;
pub use self::shape::RowShape;
use self::table::Header;
use crate::{Row, TextError};

/// Maximum bytes of a file; its rows are in memory at once.
const MAX_BYTES: u64 = 1 << 30;

/// Rows of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFile {
    /// The rows, in order.
    pub rows: Vec<Row>,
    /// Line at which each row begins, from 1.
    pub lines: Vec<usize>,
    /// Shape of the rows.
    pub shape: RowShape,
    /// Format of the file.
    pub format: RowFormat,
}

/// Format of a file of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// JSON Lines: an object per line.
    JsonLines,
    /// A JSON array of objects.
    JsonArray,
    /// CSV with a header.
    Csv,
}

impl RowFormat {
    /// Name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "JSON Lines",
            Self::JsonArray => "JSON array",
            Self::Csv => "CSV",
        }
    }
}

impl RowFile {
    /// Reads a file of rows; the content decides on its format, encoding and shape, not the name. Keys that no shape
    /// uses are ignored.
    ///
    /// # Errors
    /// - [`TextError::Row`] for the first row that is malformed, has an empty completion or another shape than the
    ///   first row, with its line.
    /// - [`TextError::NotRows`] for a file of another kind, with what it looks like and what to do.
    /// - [`TextError::NoRows`], [`TextError::Read`], [`TextError::Malformed`]
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TextError> {
        let file = path.as_ref();
        let bytes = read_limited(file, MAX_BYTES)
            .map_err(|reason| TextError::Read { file: file.into(), reason })?;
        let not_rows = |(looks, advice)| TextError::NotRows { file: file.into(), looks, advice };
        if let Some(looks) = recognise::binary(&bytes) {
            return Err(not_rows(looks));
        }
        let text = text::decoded(file, bytes)?;
        match text.trim_start().as_bytes().first() {
            None => Err(TextError::NoRows { file: file.into() }),
            Some(b'{') => match json::spread_object(&text) {
                Some(looks) => Err(not_rows(looks)),
                None => Self::collect(file, RowFormat::JsonLines, json::lines(&text)),
            },
            Some(b'[') => match json::items(&text) {
                Ok(items) => Self::collect(file, RowFormat::JsonArray, items),
                Err(NotItems::Looks(looks)) => Err(not_rows(looks)),
                Err(NotItems::Syntax(line, error)) => {
                    Err(TextError::Row { file: file.into(), line, error })
                }
            },
            Some(_) => {
                let header = table::header(&text);
                match table::recognise(&header) {
                    Header::Rows => {
                        Self::collect(file, RowFormat::Csv, table::records(&text, &header))
                    }
                    Header::Refused(error) => {
                        Err(TextError::Row { file: file.into(), line: 1, error })
                    }
                    Header::Unknown => Err(not_rows(recognise::text(&text))),
                }
            }
        }
    }

    fn collect<'t>(
        file: &Path,
        format: RowFormat,
        objects: impl IntoIterator<Item = (usize, Result<Object<'t>, RowError>)>,
    ) -> Result<Self, TextError> {
        let (mut rows, mut lines, mut first) = (Vec::new(), Vec::new(), None);
        for (line, object) in objects {
            let row = object.and_then(|object| read_row::row(&object, first));
            let (row, shape) =
                row.map_err(|error| TextError::Row { file: file.into(), line, error })?;
            first = Some(shape);
            rows.push(row);
            lines.push(line);
        }
        match first {
            Some(shape) => Ok(Self { rows, lines, shape, format }),
            None => Err(TextError::NoRows { file: file.into() }),
        }
    }
}

/// Reads the rows of a file, as [`RowFile::read`].
///
/// # Errors
/// Those of [`RowFile::read`].
pub fn read_rows(path: impl AsRef<Path>) -> Result<Vec<Row>, TextError> {
    Ok(RowFile::read(path)?.rows)
}
