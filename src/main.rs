//! The server's entry point.

use clap::Parser;
use moim::cli::Cli;

fn main() -> anyhow::Result<()> {
    Cli::parse().run()
}
