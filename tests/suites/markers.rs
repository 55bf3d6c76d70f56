//! The bundled network of marker cards, on pictures that it was not trained on.

use std::fs;
use std::path::{Path, PathBuf};

use resight::cards::{Clip, Shown, cards};
use resight_imaging::ImageView;
use resight_runtime::{Classifier, Model, Target, ThreadSettings, predictions};

const NOTHING: usize = 12;

fn bundled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/markers").join(name)
}

fn classifier(model: &Model) -> Classifier {
    Classifier::new(model, &Target::of_this_machine().unwrap(), ThreadSettings::default()).unwrap()
}

#[test]
fn the_model_is_small_and_names_the_cards() {
    let file = bundled("markers.resight.tar");
    assert!(fs::metadata(&file).unwrap().len() <= 3_000_000);
    let model = Model::load(&file).unwrap();
    assert_eq!(cards().len(), NOTHING);
    for (class, card) in cards().iter().enumerate() {
        assert_eq!(model.labels().name(class), Some(card.name.as_str()));
    }
    assert_eq!(model.labels().name(NOTHING), Some("nothing"));
    classifier(&model).self_test(&model).unwrap();
}

#[test]
fn it_knows_the_cards_of_clips_and_sees_none_where_none_is() {
    let model = Model::load(&bundled("markers.resight.tar")).unwrap();
    let mut classifier = classifier(&model);
    let (mut right, mut cards, mut alarms) = (0, 0, 0);
    for seed in [11, 12, 13] {
        let clip = Clip::new(seed);
        for index in (0..clip.len()).step_by(3) {
            let image = clip.frame(index);
            let logits = classifier.classify(&ImageView::of(&image).unwrap()).unwrap();
            let best = predictions(logits, 1)[0].class;
            match clip.shown(index) {
                Shown::Card(card) => {
                    cards += 1;
                    right += usize::from(best == card);
                }
                Shown::Nothing => alarms += usize::from(best != NOTHING),
                Shown::Passing => {}
            }
        }
    }
    assert!(cards > 100 && right * 100 >= cards * 97, "{right} of {cards}");
    assert_eq!(alarms, 0);
}
