//! Tells the binary the commit and target it is built from.

#![allow(clippy::print_stdout)] // cargo reads it

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=LITEMOE_TARGET={target}");
    println!("cargo:rustc-env=LITEMOE_COMMIT={}", commit().as_deref().unwrap_or("unknown"));
}

/// The checkout's commit; `None` without git, or if the directory above is another project's checkout.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let changed = ["HEAD", "logs/HEAD", "packed-refs"];
    for name in changed.into_iter().chain(branch.as_deref()) {
        // In a worktree these are in several directories. A path that does not exist would count as changed.
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Output of a git command in this package's directory; `None` if it fails.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    output.status.success().then_some(text)
}
