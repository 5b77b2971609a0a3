//! Integration tests of the binary.

mod ahead;
mod bad_input;
mod bench;
mod chat;
mod command_line;
mod control_characters;
mod data;
mod determinism;
mod doors;
#[cfg(feature = "embedded")]
mod embedded;
mod evaluating;
mod failing_writes;
mod families;
mod generation;
#[cfg(feature = "hub")]
mod hostile_hub;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_server;
mod inspect;
#[cfg(target_os = "linux")]
mod memory;
mod outputs;
#[cfg(feature = "hub")]
mod pull;
mod refit;
mod rows;
mod serving;
mod shards;
mod stdout;
mod verbs;
mod written_dirs;
