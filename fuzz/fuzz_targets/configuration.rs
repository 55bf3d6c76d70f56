//! A configuration is accepted or refused with a line for each mistake, of which there are not many.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mistakes = resightd::mistakes_of(text);
        assert!(mistakes.len() <= 1000);
        assert!(mistakes.iter().all(|mistake| !mistake.contains('\n')));
    }
});
