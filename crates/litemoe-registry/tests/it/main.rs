//! Tests of the registry of apps.

mod adapters;
mod apps;
mod checking;
#[cfg(target_os = "linux")]
mod disk;
mod formats;
mod isolation;
mod jobs;
mod keys;
#[cfg(unix)]
mod kills;
mod names;
mod processes;
mod scene;
mod specs;
mod uploads;
mod usage;
