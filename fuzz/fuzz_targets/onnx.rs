//! An ONNX file becomes a network or is refused in one line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use resight::import::import_proto;
use tract_onnx::pb::ModelProto;

fuzz_target!(|bytes: &[u8]| {
    let Ok(proto) = ModelProto::decode(bytes) else { return };
    if let Err(error) = import_proto(proto, Path::new("fuzz.onnx")) {
        assert!(!error.to_string().contains('\n'));
    }
});
