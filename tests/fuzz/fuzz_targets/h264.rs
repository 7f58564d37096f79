#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| moim_engine::fuzzing::h264(input));
