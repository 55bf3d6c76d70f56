//! Second-order rounding from a network to a model file.

use std::fs;
use std::path::{Path, PathBuf};

use resight::cards::Clip;
use resight::import::import;
use resight::quantise::{
    Method, Options, PictureFault, Quantised, Rounding, default_preprocessing, quantise,
};
use resight::synth::{Architecture, Design, build, write};
use resight_imaging::Preprocessing;
use tempfile::TempDir;

fn pictures(folder: &Path, count: usize) -> Vec<PathBuf> {
    let clip = Clip::new(5);
    let picture = |index: usize| {
        let path = folder.join(format!("{index:03}.png"));
        clip.frame(index * clip.len() / count).save(&path).unwrap();
        path
    };
    (0..count).map(picture).collect()
}

/// A small network with bottlenecks, groups and a residual stream, quantised.
fn quantised(folder: &TempDir, images: &[PathBuf], method: Method) -> Quantised {
    quantised_by(folder, images, |preprocessing| Options::new(method, preprocessing))
}

fn quantised_by(
    folder: &TempDir,
    images: &[PathBuf],
    options: impl FnOnce(Preprocessing) -> Options,
) -> Quantised {
    let onnx = folder.path().join("net.onnx");
    let design = Design { widths: vec![8, 16], groups: 4, ..Architecture::TinyBottleneck.design() };
    write(&build(&design, 3), &onnx).unwrap();
    let imported = import(&onnx).unwrap();
    let options = options(default_preprocessing(&imported.graph).unwrap());
    quantise(&imported, images, &options, &|_, _, _| ()).unwrap()
}

/// What tells two results apart.
fn fingerprint(quantised: &Quantised) -> (Vec<Vec<f32>>, Vec<f64>, f64) {
    (
        quantised.golden.iter().map(|golden| golden.logits().unwrap().to_vec()).collect(),
        quantised.report.layers.iter().map(|layer| layer.weights_sqnr_db).collect(),
        quantised.centred_sqnr_db,
    )
}

#[test]
fn it_depends_on_no_thread_and_changes_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path(), 11);
    let run = |threads: usize, method: Method| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| quantised(&folder, &images, method))
    };
    let one = run(1, Method::Best);
    assert_eq!(fingerprint(&one), fingerprint(&run(3, Method::Best)));
    assert_eq!((one.report.method, one.report.rounding), ("best", Rounding::Gptq));
    let nearest = run(1, Method::Mse);
    assert_ne!(fingerprint(&one), fingerprint(&nearest));
    assert_eq!(nearest.report.rounding, Rounding::Nearest);
}

#[test]
fn names_of_pictures_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path(), 10);
    let before = quantised(&folder, &images, Method::Best);
    let renamed: Vec<PathBuf> = images
        .iter()
        .rev()
        .enumerate()
        .map(|(index, path)| {
            let renamed = folder.path().join(format!("renamed_{index:03}.png"));
            fs::rename(path, &renamed).unwrap();
            renamed
        })
        .collect();
    let after = quantised(&folder, &renamed, Method::Best);
    assert_eq!(fingerprint(&before), fingerprint(&after));
}

#[test]
fn with_too_few_pictures_to_hold_any_out_the_nearest_steps_stay() {
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path(), 4);
    // Which channels are split follows from all pictures, however few.
    let best = quantised_by(&folder, &images, |preprocessing| Options {
        split: 0.0,
        ..Options::new(Method::Best, preprocessing)
    });
    let nearest = quantised(&folder, &images, Method::Mse);
    // The first golden vector is of another picture: here they are in the order of their contents.
    assert_eq!(best.golden.last(), nearest.golden.last());
    assert_eq!(fingerprint(&best).1, fingerprint(&nearest).1);
    assert!(best.faults.contains(&PictureFault::Few { pictures: 4 }), "{:?}", best.faults);
}

#[test]
fn split_channels_bring_the_logits_closer_to_f32() {
    let folder = tempfile::tempdir().unwrap();
    let images = pictures(folder.path(), 10);
    let with = |split: f64| {
        quantised_by(&folder, &images, |preprocessing| Options {
            split,
            ..Options::new(Method::Mse, preprocessing)
        })
    };
    let (whole, split) = (with(0.0), with(10.0));
    assert_eq!(whole.report.split_channels, None);
    assert!(split.report.split_channels.is_some_and(|channels| channels > 0), "{:?}", split.report);
    assert!(
        split.centred_sqnr_db > whole.centred_sqnr_db,
        "{} {}",
        split.centred_sqnr_db,
        whole.centred_sqnr_db
    );
    // The residual stream begins at the pool: it reads the sum.
    let sums = split.report.layers.iter().filter(|layer| layer.name.ends_with("sum")).count();
    assert!(sums <= 1, "{sums}");
}
