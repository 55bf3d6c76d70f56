//! The committed fixtures are what today's code makes.

use resight_fixtures::{Random, TINY_MODEL, TINY_SIDE};
use resight_imaging::{ImageView, RgbImage};
use resight_runtime::{Classifier, Model, Target, ThreadSettings, predictions};

/// Bytes may differ: calibration runs in f32, and where a CPU has other vectors its sums are
/// rounded elsewhere. Everything else may not.
#[test]
fn the_tiny_model_is_what_the_quantiser_makes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.tar");
    resight_tests::make_tiny_model(&path).unwrap();
    let models =
        [Model::from_bytes("the fixture", TINY_MODEL.to_vec()).unwrap(), Model::load(&path).unwrap()];
    let [committed, made] = &models;
    for class in 0..10 {
        assert_eq!(committed.labels().name(class), Some(format!("thing {class}").as_str()));
        assert_eq!(committed.labels().name(class), made.labels().name(class));
    }
    let [mut committed, mut made] = models.each_ref().map(|model| {
        Classifier::new(model, &Target::of_this_machine().unwrap(), ThreadSettings::default()).unwrap()
    });
    committed.self_test(&models[0]).unwrap();
    let mut random = Random::new(1);
    let (mut signal, mut noise) = (0.0, 0.0);
    for _ in 0..20 {
        let pixels = random.bytes((TINY_SIDE * TINY_SIDE * 3) as usize);
        let image = RgbImage::from_raw(TINY_SIDE, TINY_SIDE, pixels).unwrap();
        let view = ImageView::of(&image).unwrap();
        let logits = [&mut committed, &mut made].map(|one| one.classify(&view).unwrap().to_vec());
        assert_eq!(predictions(&logits[0], 1)[0].class, predictions(&logits[1], 1)[0].class);
        signal += logits[0].iter().map(|logit| logit.powi(2)).sum::<f32>();
        noise += logits[0].iter().zip(&logits[1]).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    }
    // 30 dB, which a network of another seed or recipe is far from.
    assert!(noise * 1000.0 <= signal, "make the fixture anew: cargo run -p resight-tests");
}
