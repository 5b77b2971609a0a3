use thiserror::Error;

/// Error: a name that is not one of the known ones.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown {what} `{given}`; known: {known}")]
pub struct UnknownName {
    /// What was named, e.g. `score`.
    pub what: &'static str,
    /// The name as given.
    pub given: String,
    /// The known names, comma-separated.
    pub known: String,
}

/// Defines a fieldless enum with names and one line about each value: `ALL`, `name`, `about`, `Display`, `FromStr`, and
/// serde by name.
macro_rules! named_enum {
    ($(#[$meta:meta])* $type:ident, $what:literal, { $($(#[$doc:meta])* $variant:ident = $name:literal: $about:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        pub enum $type { $($(#[$doc])* #[serde(rename = $name)] $variant),+ }

        impl $type {
            /// All values, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name used in files and on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// One line about the value, for help texts.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::UnknownName;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.name() == given).ok_or_else(|| {
                    $crate::UnknownName {
                        what: $what,
                        given: given.to_owned(),
                        known: [$($name),+].join(", "),
                    }
                })
            }
        }
    };
}
pub(crate) use named_enum;
