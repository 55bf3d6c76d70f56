//! A manifest that is accepted is written back as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resight_model_file::Manifest;

fuzz_target!(|bytes: &[u8]| {
    match Manifest::from_json("fuzz", bytes) {
        Ok(manifest) => assert_eq!(manifest.to_json(), bytes),
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
