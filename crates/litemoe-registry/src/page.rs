/// Part of a list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<'a> {
    /// Id of the entry that the part comes after; `None` begins with the newest.
    pub after: Option<&'a str>,
    /// Maximum number of entries.
    pub limit: u32,
}

impl Default for Page<'_> {
    /// The whole list.
    fn default() -> Self {
        Self { after: None, limit: u32::MAX }
    }
}
