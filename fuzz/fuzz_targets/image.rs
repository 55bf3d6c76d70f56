//! An image is refused in one line, or it can be preprocessed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resight_imaging::{ImageView, Preprocessing, Preprocessor, decode_bytes};

fuzz_target!(|bytes: &[u8]| {
    match decode_bytes("fuzz", bytes) {
        Ok(image) => {
            let view = ImageView::of(&image).expect("a decoded image is within the limits");
            let preprocessing = Preprocessing::for_input(32, 32);
            let mut preprocessor = Preprocessor::new(&preprocessing).expect("it is valid");
            assert_eq!(preprocessor.crop(&view).len(), 32 * 32 * 3);
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
