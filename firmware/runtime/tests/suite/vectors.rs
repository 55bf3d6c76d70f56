//! Networks that end in a vector, and the layer that compares it with others.

use resight_imaging::{ImageView, RgbImage};
use resight_kernels::Sequential;
use resight_model_file::{Activation, Golden, Task};
use resight_runtime::layers::Similarity;
use resight_runtime::{
    Classifier, Embedder, Layers, Model, Target, ThreadSettings, cosine, normalise, sigmoid,
};
use tract_nnef::internal::*;

use crate::common::{both_ways, by_program, file, input, network, tensor};

/// The vector of the small network, whose five numbers are classes elsewhere.
fn vector() -> Vec<f32> {
    numbers(&by_program(&network(), &Layers::default(), Target::reference())[0])
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn model(task: Task) -> Result<Model, String> {
    let golden = Golden::classes(input(), vector());
    let bytes = file(&network(), &Layers::default(), task, "", &[golden]);
    Model::from_bytes("m.tar", bytes).map_err(|error| error.to_string())
}

fn picture() -> RgbImage {
    RgbImage::from_fn(30, 22, |x, y| [(x * 8) as u8, (y * 11) as u8, ((x + y) * 4) as u8].into())
}

#[test]
fn a_model_file_gives_vectors() {
    for normalised in [false, true] {
        let model = model(Task::Embedding { normalised }).unwrap();
        assert_eq!(model.task(), Task::Embedding { normalised });
        assert_eq!((model.head().class_count(), model.labels().len()), (None, 0));
        let mut embedder = Embedder::new(&model, &Target::reference(), ThreadSettings::default()).unwrap();
        embedder.self_test(&model).unwrap();
        let image = picture();
        let view = ImageView::of(&image).unwrap();
        let found = embedder.embed(&view).unwrap().to_vec();
        assert_eq!((found.len(), embedder.head().numbers()), (5, 5));
        let length = found.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert_eq!((length - 1.0).abs() < 1e-6, normalised, "{length}");
        let once_more = embedder.embed(&view).unwrap();
        assert_eq!(once_more, found);
        assert!((cosine(once_more, &found) - 1.0).abs() < 1e-6);
        let error = Classifier::new(&model, &Target::reference(), ThreadSettings::default()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "m.tar: the network gives vectors, not classes: `resight references MODEL PHOTOGRAPHS -o NAME` makes \
             classes of photographs of each"
        );
    }
    let tensors = file(
        &network(),
        &Layers::default(),
        Task::default(),
        "a\nb\nc\nd\ne\n",
        &[Golden::classes(input(), vector())],
    );
    let classes = Model::from_bytes("c.tar", tensors).unwrap();
    let error = Embedder::new(&classes, &Target::reference(), ThreadSettings::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "c.tar: the network gives no vectors: give the file that `resight quantize --task embed` wrote"
    );
}

#[test]
fn a_vector_of_another_length_is_found() {
    let golden = Golden::classes(input(), vec![0.0; 4]);
    let bytes = file(&network(), &Layers::default(), Task::Embedding { normalised: true }, "", &[golden]);
    let error = Model::from_bytes("m.tar", bytes).unwrap_err().to_string();
    assert_eq!(error, "m.tar: a golden vector is not of the network's size");
}

/// The network with a class for each reference.
fn compared(references: &[Vec<f32>]) -> TypedModel {
    let mut graph = network();
    let output = graph.output_outlets().unwrap()[0];
    let layer = Similarity { references: tensor(&[references.len(), 5], &references.concat()) };
    let logits = graph.wire_node("similarity", layer, &[output]).unwrap();
    graph.select_output_outlets(&logits).unwrap();
    graph
}

#[test]
fn the_probability_of_a_reference_is_the_cosine() {
    let vector = vector();
    // As far along the vector as across its smallest number.
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    let smallest = (0..5).min_by(|&a, &b| vector[a].abs().total_cmp(&vector[b].abs())).unwrap();
    let mut turned = vector.clone();
    turned[smallest] += length;
    let opposite = vector.iter().map(|value| -value).collect();
    // Their lengths do not matter.
    let references = [vector.iter().map(|value| value * 3.0).collect(), turned, opposite];
    let graph = compared(&references);
    let layers = Layers::default();
    let logits = both_ways(&graph, &layers);
    let mut found = numbers(&logits[0]);
    sigmoid(&mut found);
    let expected: Vec<f32> = references.iter().map(|other| cosine(&vector, other).max(0.0)).collect();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 2e-6), "{found:?} {expected:?}");
    assert!(found[0] > 0.99 && found[2] < 0.01 && (0.01..0.999).contains(&found[1]), "{found:?}");
    // The same through a file, as classes of their own.
    let golden = Golden::classes(input(), numbers(&logits[0]));
    let task = Task::Classes { activation: Activation::Sigmoid };
    let bytes = file(&graph, &layers, task, "same\nturned\nopposite\n", &[golden]);
    let model = Model::from_bytes("m.tar", bytes).unwrap();
    let mut program = model.compile(&Target::reference()).unwrap();
    model.self_test(&mut program, &Sequential).unwrap();
    let mut unit = vector.clone();
    normalise(&mut unit);
    assert!((cosine(&unit, &vector) - 1.0).abs() < 1e-6);
}

#[test]
fn references_that_do_not_fit_are_refused() {
    let refusal = |references: Arc<Tensor>| {
        let mut graph = network();
        let output = graph.output_outlets().unwrap()[0];
        format!("{:#}", graph.wire_node("similarity", Similarity { references }, &[output]).unwrap_err())
    };
    let cases = [
        (tensor(&[2, 4], &[0.5_f32; 8]), "references of 4 numbers cannot be compared with [1, 5]"),
        (tensor(&[10], &[0.5_f32; 10]), "references must have two dimensions, found [10]"),
        (tensor(&[1, 5], &[0.5, 0.5, f32::NAN, 0.5, 0.5]), "a number of a reference is not finite"),
        (tensor(&[0, 5], &[0.5_f32; 0]), "there are 0 references of 5 numbers"),
    ];
    for (references, expected) in cases {
        let error = refusal(references);
        assert!(error.contains(expected), "{error}");
    }
}
