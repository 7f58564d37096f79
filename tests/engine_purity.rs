//! The engine takes time and datagrams as arguments and nothing else: its files name no
//! runtime, clock, socket or thread. This test keeps it so; that it knows nothing above it, its
//! manifest does.

use std::fs;
use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 10] = [
    "tokio",
    "Instant::now",
    "SystemTime",
    "UdpSocket",
    "TcpStream",
    "thread::",
    "std::sync::Mutex",
    "RwLock",
    "rand::rng(",
    "moim_signaling",
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file, its unit tests included, comments left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_engine_names_no_runtime_clock_or_socket() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/src");
    let mut files = Vec::new();
    rust_files(&engine, &mut files);
    assert!(files.len() > 10, "the engine is where it is expected");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable file");
        for (number, line) in code(&text) {
            for forbidden in FORBIDDEN.iter().filter(|word| line.contains(*word)) {
                found.push(format!("{}:{}: {forbidden}", file.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
