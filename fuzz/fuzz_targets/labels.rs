//! Labels that are accepted survive being written and read; patterns end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resight_model_file::Labels;

fuzz_target!(|bytes: &[u8]| {
    match Labels::parse("fuzz", bytes) {
        Ok(labels) => {
            assert_eq!(Labels::parse("fuzz", labels.to_text().as_bytes()).as_ref().ok(), Some(&labels));
            let pattern = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]);
            assert!(labels.find(&pattern).iter().all(|class| *class < labels.len()));
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
