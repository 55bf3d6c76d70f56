//! A model file either is refused in one line or hands out members that its manifest names.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use resight_model_file::Archive;

fuzz_target!(|bytes: &[u8]| {
    let archive = match Archive::from_bytes("fuzz", bytes) {
        Ok(archive) => archive,
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            return;
        }
    };
    for info in &archive.manifest().members {
        assert_eq!(archive.get(&info.name).map(|content| content.len() as u64), Some(info.size));
    }
    let _ = (archive.labels(), archive.preprocessing(), archive.provenance(), archive.goldens());
    if let Ok(mut network) = archive.network() {
        let mut tar = Vec::new();
        network.read_to_end(&mut tar).expect("memory can be read");
        assert_eq!(tar.len() % 512, 0);
    }
});
