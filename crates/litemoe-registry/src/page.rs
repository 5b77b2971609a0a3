/// Order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// The newest entry first.
    #[default]
    NewestFirst,
    /// The oldest entry first.
    OldestFirst,
}

/// Part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// Id of the entry that the part comes after; `None` begins with the first.
    pub after: Option<&'a str>,
    /// Maximum number of entries.
    pub limit: u32,
    /// Which entry is the first.
    pub order: Order,
}

impl Default for Page<'_> {
    /// The whole list, newest first.
    fn default() -> Self {
        Self { after: None, limit: u32::MAX, order: Order::NewestFirst }
    }
}

impl Order {
    /// Condition and order of the numbers that come after a parameter, and the parameter that all come after. The
    /// condition is a range of an index, so that no entry before it is read.
    pub(crate) fn sql(self) -> (&'static str, i64) {
        match self {
            Self::NewestFirst => ("number < ? ORDER BY number DESC", i64::MAX),
            Self::OldestFirst => ("number > ? ORDER BY number", i64::MIN),
        }
    }
}
