//! Preprocessing as a member of a model file.

use resight_imaging::{Channels, Fit, Preprocessing};
use resight_model_file::{preprocessing_from_json, preprocessing_to_json};

#[test]
fn preprocessing_survives_its_file() {
    let good = Preprocessing::for_input(288, 320);
    assert_eq!(preprocessing_from_json("p", &preprocessing_to_json(&good)).unwrap(), good);
    for bad in ["", "{}", "[]", "{\"resize_shorter\": 256}", "null", "\u{0}"] {
        let error = preprocessing_from_json("m.tar: preprocessing.json", bad.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("m.tar: preprocessing.json: "), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
    let text = String::from_utf8(preprocessing_to_json(&good)).unwrap();
    let unknown = text.replacen('{', "{\"gamma\": 2,", 1);
    assert!(preprocessing_from_json("p", unknown.as_bytes()).unwrap_err().to_string().contains("gamma"));
    let zero = text.replace("365", "0");
    assert!(
        preprocessing_from_json("p", zero.as_bytes()).unwrap_err().to_string().contains("resize_shorter")
    );
}

#[test]
fn what_is_as_always_is_not_written() {
    let default = Preprocessing::default();
    let text = String::from_utf8(preprocessing_to_json(&default)).unwrap();
    assert!(!text.contains("channels") && !text.contains("fit"), "{text}");
    let other = Preprocessing { channels: Channels::Bgr, fit: Fit::Letterbox, ..default };
    let json = preprocessing_to_json(&other);
    let text = String::from_utf8(json.clone()).unwrap();
    assert!(text.contains("\"channels\": \"bgr\"") && text.contains("\"fit\": \"letterbox\""), "{text}");
    assert_eq!(preprocessing_from_json("p", &json).unwrap(), other);
    let unknown = text.replace("letterbox", "stretch");
    let error = preprocessing_from_json("p", unknown.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("stretch"), "{error}");
}
