//! Micro-benchmarks of the engine and the negotiation, without I/O:
//! `cargo bench -p moim-load --bench engine`.

mod connection;
mod fan_out;
mod negotiation;
mod packet;

fn main() {
    divan::main();
}
