//! The bundled detector of marker cards, on pictures that it was not trained on.

use std::fs;
use std::path::{Path, PathBuf};

use resight::cards::{Conveyor, FRAME, Seen, cards};
use resight_imaging::ImageView;
use resight_runtime::{Detection, Found, Locator, Model, Target, ThreadSettings};

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/markers/detector.resight.tar")
}

fn locator(model: &Model) -> Locator {
    Locator::new(model, &Target::of_this_machine().unwrap(), ThreadSettings::default()).unwrap()
}

#[test]
fn the_detector_is_small_and_names_the_cards() {
    assert!(fs::metadata(bundled()).unwrap().len() <= 3_000_000);
    let model = Model::load(&bundled()).unwrap();
    assert_eq!(model.labels().len(), cards().len());
    for (class, card) in cards().iter().enumerate() {
        assert_eq!(model.labels().name(class), Some(card.name.as_str()));
    }
    locator(&model).self_test(&model).unwrap();
}

/// Intersection over union of a box with a card's, both in pixels of the frame.
fn overlap(found: &Detection, seen: &Seen) -> f64 {
    let (width, height) = (f64::from(FRAME.0), f64::from(FRAME.1));
    let [left, top, right, bottom] = seen.edges;
    let truth = [left * width, top * height, right * width, bottom * height];
    let bounds = &found.bounds;
    let found = [bounds.left, bounds.top, bounds.right, bounds.bottom].map(f64::from);
    let side = |axis: usize| (truth[axis + 2].min(found[axis + 2]) - truth[axis].max(found[axis])).max(0.0);
    let area = |edges: [f64; 4]| (edges[2] - edges[0]) * (edges[3] - edges[1]);
    let both = side(0) * side(1);
    both / (area(truth) + area(found) - both)
}

#[test]
fn it_finds_the_cards_on_conveyors_and_nothing_else() {
    let model = Model::load(&bundled()).unwrap();
    let mut locator = locator(&model);
    locator.set_threshold(0.4);
    let (mut cards, mut found, mut boxes, mut wrong) = (0, 0, 0, 0);
    for seed in [11, 12, 13] {
        let clip = Conveyor::new(seed);
        for index in (0..clip.len()).step_by(8) {
            let (image, seen) = (clip.frame(index), clip.seen(index));
            let Found::Boxes(here) = locator.locate(&ImageView::of(&image).unwrap()).unwrap() else {
                panic!("it gives boxes")
            };
            let fits =
                |found: &Detection, seen: &Seen| found.class == seen.card && overlap(found, seen) >= 0.5;
            for seen in seen.iter().filter(|seen| seen.visible == 1.0) {
                cards += 1;
                found += usize::from(here.iter().any(|found| fits(found, seen)));
            }
            boxes += here.len();
            // What shows only in part may be found or not.
            wrong += here.iter().filter(|found| !seen.iter().any(|seen| fits(found, seen))).count();
        }
    }
    println!("{found} of {cards} cards, {wrong} of {boxes} boxes wrong");
    assert!(cards > 120 && found * 100 >= cards * 97, "{found} of {cards}");
    assert!(wrong * 100 <= boxes * 4, "{wrong} of {boxes}");
}
