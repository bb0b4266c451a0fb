#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| escape_fuzz::frames(data));
