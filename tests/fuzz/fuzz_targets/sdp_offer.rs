#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| moim::fuzzing::sdp_offer(input));
