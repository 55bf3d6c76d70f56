//! Networks with several outputs, of several types.

use resight_fixtures::Random;
use resight_kernels::Sequential;
use resight_model_file::{Expected, Golden, Task};
use resight_runtime::layers::{GlobalAverage, Linear};
use resight_runtime::{Classifier, Head, Layers, Model, Program, Target, TensorFact, ThreadSettings};
use tract_nnef::internal::*;

use crate::common::{both_ways, by_program, file, input, network, tensor};

/// The small network with three outputs: its logits, those of a second linear layer, and the int8
/// map in the middle, which the layers after it read as well.
fn three_outputs() -> TypedModel {
    let mut model = network();
    let map: OutletId = model.node_by_name("layer1.1.conv2").unwrap().id.into();
    let logits = model.output_outlets().unwrap()[0];
    let average = model.wire_node("second.average", GlobalAverage { fraction_bits: 6 }, &[map]).unwrap()[0];
    let linear = Linear {
        weights: tensor(&[3, 8], &Random::new(5).weights(24)),
        bias: tensor(&[3], &[7, -9, 1000]),
        scale: tensor(&[3], &[0.25f32, 0.5, 0.125]),
        input_limit: 128 << 6,
    };
    let second = model.wire_node("second.logits", linear, &[average]).unwrap()[0];
    model.select_output_outlets(&[second, map, logits]).unwrap();
    model
}

fn golden() -> Golden {
    let expected = by_program(&three_outputs(), &Layers::default(), Target::reference());
    Golden { input: input(), expected: Expected::Tensors(expected) }
}

#[test]
fn every_output_is_the_same_both_ways() {
    let (graph, layers) = (three_outputs(), Layers::default());
    let outputs = both_ways(&graph, &layers);
    assert_eq!(outputs.iter().map(Vec::len).collect::<Vec<_>>(), [12, 5 * 4 * 8, 20]);
    assert_eq!(outputs[2..], by_program(&network(), &layers, Target::reference()));
    let mut program = Program::compile(&graph, &layers, &Target::reference()).unwrap();
    let facts: Vec<String> = program.outputs().map(TensorFact::to_string).collect();
    assert_eq!(facts, ["1x3 F32", "1x5x4x8 I8", "1x5 F32"]);
    let run = program.run(&Sequential, &input()).unwrap();
    assert_eq!((run.len(), run.get(3).is_none()), (3, true));
    assert_eq!(run.get(1).unwrap().slice::<i8>().unwrap().len(), 5 * 4 * 8);
    let error = run.get(1).unwrap().slice::<f32>().unwrap_err().to_string();
    assert_eq!(error, "a tensor of I8 is read as one of F32");
}

#[test]
fn the_outputs_of_a_run_outlive_the_steps_after_them() {
    let (graph, layers) = (three_outputs(), Layers::default());
    let mut program = Program::compile(&graph, &layers, &Target::reference()).unwrap();
    let mut seen = vec![];
    let names: Vec<String> = program.steps().into_iter().map(|step| step.name).collect();
    let outputs = program
        .run_observed(&Sequential, &input(), |step, output| {
            if names[step] == "layer1.1.conv2" {
                seen = output.bytes.to_vec();
            }
        })
        .unwrap();
    assert_eq!(outputs.get(1).unwrap().bytes, seen);
}

#[test]
fn a_model_file_holds_a_network_of_several_outputs() {
    let bytes = file(&three_outputs(), &Layers::default(), Task::Tensors, "", &[golden()]);
    let model = Model::from_bytes("m.tar", bytes).unwrap();
    assert_eq!((model.head(), model.task(), model.labels().len()), (&Head::Tensors, Task::Tensors, 0));
    let mut program = model.compile(&Target::reference()).unwrap();
    model.self_test(&mut program, &Sequential).unwrap();
    let error = Classifier::new(&model, &Target::reference(), ThreadSettings::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "m.tar: the network gives tensors, not classes: choose a model file of a classifier"
    );
}

#[test]
fn a_wrong_byte_of_any_output_is_found() {
    let mut wrong = golden();
    let Expected::Tensors(outputs) = &mut wrong.expected else { panic!("tensors") };
    outputs[1][17] ^= 1;
    let (is, must) = (outputs[1][17] ^ 1, outputs[1][17]);
    let bytes = file(&three_outputs(), &Layers::default(), Task::Tensors, "", &[golden(), wrong]);
    let model = Model::from_bytes("m.tar", bytes).unwrap();
    let mut program = model.compile(&Target::reference()).unwrap();
    let error = model.self_test(&mut program, &Sequential).unwrap_err().to_string();
    let expected = format!("m.tar: golden vector 1: byte 17 of output 1 is {is}, must be {must}; ");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn outputs_that_do_not_fit_the_task_are_refused() {
    let refusal = |task, labels: &str, golden: &[Golden]| {
        let bytes = file(&three_outputs(), &Layers::default(), task, labels, golden);
        Model::from_bytes("m.tar", bytes).unwrap_err().to_string()
    };
    let error = refusal(Task::default(), "a\nb\nc\n", &[golden()]);
    assert_eq!(error, "m.tar: a classifier has one output, this network has 3");
    let error = refusal(Task::Tensors, "", &[]);
    assert_eq!(error, "m.tar: there is no golden vector");
    let mut short = golden();
    let Expected::Tensors(outputs) = &mut short.expected else { panic!("tensors") };
    outputs[2].pop();
    for golden in [short, Golden::classes(input(), vec![0.0; 3])] {
        assert_eq!(
            refusal(Task::Tensors, "", &[golden]),
            "m.tar: a golden vector is not of the network's size"
        );
    }
    let mut map = network();
    let conv = map.node_by_name("layer1.1.conv2").unwrap().id.into();
    map.select_output_outlets(&[conv]).unwrap();
    let bytes = file(&map, &Layers::default(), Task::default(), "a\n", &[golden()]);
    let error = Model::from_bytes("m.tar", bytes).unwrap_err().to_string();
    assert_eq!(error, "m.tar: a classifier gives logits, not [1, 5, 4, 8] of I8");
}
