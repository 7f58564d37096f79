#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| moim_signaling::fuzzing::signal_message(input));
