//! Integration tests of the binary.

mod ahead;
mod apps;
mod bad_input;
mod bench;
mod cache_dtype;
#[cfg(unix)]
mod changing_inputs;
mod chat;
mod checksums;
mod command_line;
mod control_characters;
#[cfg(target_os = "linux")]
mod crowd;
mod data;
mod determinism;
mod doors;
#[cfg(feature = "embedded")]
mod embedded;
mod evaluating;
mod exporting;
mod exporting_vllm;
mod failing_writes;
mod families;
#[cfg(target_os = "linux")]
mod full_disk;
mod fusing;
mod generation;
#[cfg(feature = "hub")]
mod hostile_hub;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_server;
mod inspect;
#[cfg(all(feature = "embedded", target_os = "linux"))]
mod jobs;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(unix)]
mod loading;
#[cfg(all(feature = "embedded", target_os = "linux"))]
mod loop_kills;
mod measuring;
#[cfg(target_os = "linux")]
mod memory;
mod not_finite;
mod outputs;
mod packed_weights;
mod progress;
#[cfg(feature = "hub")]
mod pull;
mod quantizing;
mod records;
mod refit;
mod refused_exports;
mod rows;
mod serving;
mod serving_apps;
#[cfg(unix)]
mod serving_proxies;
mod shards;
mod stdout;
mod verbs;
mod written_dirs;
