#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| moim_engine::fuzzing::data_channels(std::time::Instant::now(), input));
