//! The apps and the foundation of the evaluation.

/// The app written for this project.
pub(super) const HOME: &str = "home";

/// Apps below `--data`, in table order; the foundations were trained on the training rows of the last three.
pub(super) const APPS: &[&str] =
    &["banking", "reviews", "terminal", "assistant", "tables", "phrasebook"];

/// The apps that the foundations were trained on.
pub(super) const SEEN: &[&str] = &["assistant", "tables", "phrasebook"];

/// The foundation in `fixtures`.
pub(super) const EMBEDDED: &str = "embedded";

/// Apps that run with several seeds, on the embedded foundation at the first budget.
pub(super) const SEEDED: &[&str] = &[HOME, "banking"];
