//! The example for programs that use tract themselves gives what the board computes.

#[allow(dead_code, reason = "its main function is for people")]
#[path = "../../examples/tract_user.rs"]
mod example;

use resight_fixtures::{TINY_MODEL, TINY_SIDE};
use resight_imaging::{ImageView, RgbImage};
use resight_runtime::{Classifier, Model, Target, ThreadSettings};

#[test]
fn the_example_gives_the_logits_of_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("picture.png");
    let image =
        RgbImage::from_fn(TINY_SIDE, TINY_SIDE, |x, y| [(x * 7) as u8, (y * 5) as u8, (x * y) as u8].into());
    image.save(&picture).unwrap();
    let model = Model::from_bytes("tiny.resight.tar", TINY_MODEL.to_vec()).unwrap();
    let target = Target::of_this_machine().unwrap();
    let mut classifier = Classifier::new(&model, &target, ThreadSettings::default()).unwrap();
    let expected = classifier.classify(&ImageView::of(&image).unwrap()).unwrap().to_vec();
    assert_eq!(example::logits(&model, &picture).unwrap(), expected);
    assert!(expected.iter().any(|logit| *logit != expected[0]));
}
