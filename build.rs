//! Builds the meeting page, so that one `cargo run` starts a whole meeting server.

use std::path::Path;
use std::process::{Command, exit};

/// What to do without Node.js.
const REMEDY: &str = "Install Node.js 20 or newer (with npm), or build a server without the \
    meeting page: cargo run --release --no-default-features";

fn main() {
    for input in [
        "src",
        "index.html",
        "package.json",
        "package-lock.json",
        "vite.config.ts",
        "tsconfig.json",
    ] {
        println!("cargo:rerun-if-changed=web/{input}");
    }
    if std::env::var_os("CARGO_FEATURE_PAGE").is_none() {
        return;
    }
    check_node();
    // The lock file decides; what npm installed last says whether it is still right.
    let installed = Path::new("web/node_modules/.package-lock.json");
    if !is_newer(installed, Path::new("web/package-lock.json")) {
        npm(&["ci", "--no-audit", "--no-fund"]);
    }
    npm(&["run", "--silent", "build"]);
}

fn check_node() {
    let Ok(output) = Command::new("node").arg("--version").output() else {
        fail("Node.js is missing: the meeting page cannot be built.");
    };
    let version = String::from_utf8_lossy(&output.stdout);
    let major = version.trim().trim_start_matches('v').split('.').next();
    if major
        .and_then(|major| major.parse::<u32>().ok())
        .is_none_or(|major| major < 20)
    {
        fail(&format!(
            "Node.js {} is too old to build the meeting page.",
            version.trim()
        ));
    }
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified());
    match (modified(file), modified(than)) {
        (Ok(file), Ok(than)) => file >= than,
        _ => false,
    }
}

fn npm(arguments: &[&str]) {
    let status = Command::new("npm")
        .args(arguments)
        .current_dir("web")
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "`npm {}` failed in web/ (its output is above).",
            arguments.join(" ")
        )),
        Err(error) => fail(&format!("npm cannot be run: {error}.")),
    }
}

fn fail(what: &str) -> ! {
    for line in [what, REMEDY] {
        println!("cargo:warning={line}");
        eprintln!("{line}");
    }
    exit(1);
}
