//! The text of a network is accepted or refused in one line, in linear time.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../firmware/model-file/src/graph_text.rs"]
#[allow(dead_code)]
mod graph_text;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = graph_text::check_graph(bytes) {
        assert!(!error.to_string().contains('\n'));
    }
});
