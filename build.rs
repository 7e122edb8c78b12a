//! Tells the binary which commit it is.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Every commit and checkout is logged there, also in a worktree, where .git is no folder. What is
    // absent would make cargo build the library anew each time.
    let log = output("git", &["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| std::path::Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = output("git", &["rev-parse", "HEAD"]).filter(|hash| hash.len() == 40);
    let date = output(
        "git",
        &[
            "log",
            "-1",
            "--date=format:%Y-%m-%d %H:%M UTC",
            "--format=%cd",
        ],
    );
    println!(
        "cargo::rustc-env=RK_COMMIT={}",
        commit.unwrap_or("0".repeat(40))
    );
    println!(
        "cargo::rustc-env=RK_BUILD_DATE={}",
        date.unwrap_or("1970-01-01 00:00 UTC".into())
    );
}

/// What a command prints, if it works.
fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
