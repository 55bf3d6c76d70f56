//! Preprocessing as a member of a model file.

use resight_imaging::Preprocessing;
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
