#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| moim_engine::fuzzing::vp9(input));
