use std::fmt;
use std::str::FromStr;

/// A choice on the command line that is made for the user unless it is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Auto<T> {
    /// The program chooses.
    Auto,
    /// It is given.
    Given(T),
}

impl<T> Auto<T> {
    /// What was given.
    pub(crate) fn given(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Given(value) => Some(value),
        }
    }
}

impl<T: FromStr<Err: fmt::Display>> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Given).map_err(|error| format!("{error}, or auto")),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Given(value) => value.fmt(f),
        }
    }
}
