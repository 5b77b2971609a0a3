use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Rounding of fused weights to the number formats that they are stored in.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rounding {
    /// Largest difference between a stored weight and W + s·BA.
    pub max_error: f64,
    /// Largest absolute value of s·BA.
    pub max_delta: f64,
    /// Sum of the squared differences.
    pub squared_error: f64,
    /// Sum of the squares of s·BA.
    pub squared_delta: f64,
    /// Number of weights whose stored value changed.
    pub changed: u64,
}

impl Rounding {
    /// Adds one weight: its update s·BA, the difference that rounding makes, and whether the stored value changed.
    pub(super) fn add(&mut self, delta: f64, error: f64, changed: bool) {
        self.changed += u64::from(changed);
        self.max_error = self.max_error.max(error.abs());
        self.max_delta = self.max_delta.max(delta.abs());
        self.squared_error += error * error;
        self.squared_delta += delta * delta;
    }

    /// Largest difference relative to the largest update; 0 without an update.
    pub fn relative_max(&self) -> f64 {
        ratio(self.max_error, self.max_delta)
    }

    /// Frobenius norm of the differences relative to that of the update; 0 without an update.
    pub fn relative(&self) -> f64 {
        ratio(self.squared_error.sqrt(), self.squared_delta.sqrt())
    }
}

impl AddAssign for Rounding {
    fn add_assign(&mut self, more: Self) {
        self.max_error = self.max_error.max(more.max_error);
        self.max_delta = self.max_delta.max(more.max_delta);
        self.squared_error += more.squared_error;
        self.squared_delta += more.squared_delta;
        self.changed += more.changed;
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
