//! The fuzz target of `properties::namespace_yaml`, which says what must hold.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "each target uses one of them")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::namespace_yaml(data));
