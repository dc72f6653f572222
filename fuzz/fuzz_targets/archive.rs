#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| edge_secrets_hub::fuzzing::archive(bytes));
