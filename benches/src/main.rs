//! `moim-load`, the program.

fn main() -> anyhow::Result<()> {
    moim_load::run()
}
