#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| evt_fuzz::elements::run(input));
