//! A TFLite file becomes a network or is refused in one line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use resight::convert::convert;
use resight::import::import_tflite;
use resight_imaging::Preprocessing;

fuzz_target!(|bytes: &[u8]| {
    let (imported, quantisation) = match import_tflite(bytes, Path::new("fuzz.tflite")) {
        Ok(imported) => imported,
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            return;
        }
    };
    // Small ones only: golden vectors are computed.
    let [_, height, width] = imported.graph.nodes[0].shape;
    if height * width <= 1 << 12 {
        let preprocessing = Preprocessing::for_input(height as u32, width as u32);
        if let Err(error) = convert(&imported, &quantisation, &preprocessing) {
            assert!(!error.to_string().contains('\n'));
        }
    }
});
