//! Synthetic networks of every kind are imported, and the imported graph computes what tract
//! does.

mod common;

use std::path::Path;

use resight::graph::{FloatGraph, Operator};
use resight::import::{Imported, import, import_proto};
use resight::reference::Reference;
use resight::synth::{Architecture, Design, Shortcut, Stem, build, synth, write};

fn imported(design: &Design) -> Imported {
    import_proto(build(design, 5), Path::new("synthetic.onnx")).unwrap_or_else(|error| panic!("{error}"))
}

fn tiny() -> Design {
    Architecture::TinyBottleneck.design()
}

/// Multiply-accumulates of convolutions and linear layers.
fn macs(graph: &FloatGraph) -> usize {
    let node_macs = graph.nodes.iter().map(|node| match &node.operator {
        Operator::Convolution(c) => c.weights.len() * node.shape[1] * node.shape[2],
        Operator::Linear { weights, .. } => weights.len(),
        _ => 0,
    });
    node_macs.sum()
}

fn convolutions(graph: &FloatGraph) -> usize {
    graph.nodes.iter().filter(|n| matches!(n.operator, Operator::Convolution(_))).count()
}

#[test]
fn the_architectures_have_their_published_macs_and_layers() {
    let expected = [
        (Architecture::Resnet18, 1_814, 20),
        (Architecture::Resnet34, 3_664, 36),
        (Architecture::Resnet50, 4_089, 53),
        (Architecture::Resnet101, 7_801, 104),
        (Architecture::Resnet152, 11_514, 155),
    ];
    for (architecture, millions, layers) in expected {
        let graph = imported(&architecture.design()).graph;
        assert_eq!((macs(&graph) + 500_000) / 1_000_000, millions, "{architecture:?}");
        assert_eq!(convolutions(&graph), layers, "{architecture:?}");
        assert_eq!(graph.name, architecture.name());
        assert_eq!(graph.nodes[0].shape, [3, 224, 224]);
        assert_eq!(graph.nodes.last().unwrap().shape, [1000, 1, 1]);
    }
}

#[test]
fn weights_are_dense() {
    for node in &imported(&Architecture::TinyBasic.design()).graph.nodes {
        if let Operator::Convolution(c) = &node.operator {
            assert!(c.weights.iter().chain(&c.bias).all(|&w| w != 0.0), "{}", node.name);
        }
    }
}

#[test]
fn activations_neither_vanish_nor_explode() {
    let imported = imported(&Architecture::Resnet152.design());
    let names: Vec<String> = imported.graph.nodes.iter().map(|n| n.tensor.clone()).collect();
    let reference = Reference::new(&imported, &names).unwrap();
    let result = reference.run(&common::image(3 * 224 * 224, 3)).unwrap();
    for (index, node) in imported.graph.nodes.iter().enumerate() {
        let values = result.tensor(index);
        let power = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!((1e-3..1e3).contains(&power), "{}: mean square {power}", node.name);
    }
}

#[test]
fn the_tiny_networks_equal_tract() {
    common::assert_equals_tract(&imported(&Architecture::TinyBasic.design()));
    common::assert_equals_tract(&imported(&Architecture::TinyBottleneck.design()));
}

#[test]
fn resnet101_equals_tract() {
    // A small image: the plain evaluator is slow.
    common::assert_equals_tract(&imported(&Design {
        image: [3, 64, 64],
        ..Architecture::Resnet101.design()
    }));
}

#[test]
fn batch_normalisation_folds() {
    let design = Design { batch_normalisation: true, ..tiny() };
    let imported = imported(&design);
    assert_eq!(convolutions(&imported.graph), 12);
    common::assert_equals_tract(&imported);
}

#[test]
fn preactivation_networks_keep_normalisation_as_depthwise_convolutions() {
    for bottleneck in [false, true] {
        let design = Design { preactivation: true, bottleneck, ..tiny() };
        let imported = imported(&design);
        let depthwise = imported.graph.nodes.iter().filter(|n| {
            matches!(&n.operator, Operator::Convolution(c) if c.groups > 1 && c.relu && c.kernel == [1, 1])
        });
        // The first of each of the three blocks, and the last of all.
        assert_eq!(depthwise.count(), 4);
        common::assert_equals_tract(&imported);
    }
}

#[test]
fn version_1_resnext_and_wide_networks_equal_tract() {
    common::assert_equals_tract(&imported(&Design { stride_first: true, ..tiny() }));
    common::assert_equals_tract(&imported(&Design { widths: vec![8, 16], groups: 4, ..tiny() }));
    common::assert_equals_tract(&imported(&Design { widen: 2, ..tiny() }));
}

#[test]
fn every_opset_equals_tract() {
    for opset in [7, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19, 21, 22, 23, 24, 25, 26] {
        for batch_normalisation in [false, true] {
            let design = Design {
                opset,
                batch_normalisation,
                shortcut: Shortcut::Padded,
                stem: Stem::Small,
                bottleneck: false,
                widths: vec![6, 11],
                ..tiny()
            };
            common::assert_equals_tract(&imported(&design));
        }
    }
}

#[test]
fn a_written_file_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.onnx");
    write(&synth(Architecture::TinyBasic, 9), &path).unwrap();
    common::assert_equals_tract(&import(&path).unwrap());
}

#[test]
fn the_reference_runs_on_several_threads() {
    let imported = imported(&Architecture::TinyBasic.design());
    let tensor = imported.graph.nodes[2].tensor.clone();
    let reference = Reference::new(&imported, &[tensor.clone(), "input".into(), tensor]).unwrap();
    let image = common::image(3 * 32 * 32, 1);
    let expected = reference.run(&image).unwrap();
    assert_eq!(expected.tensor(0), expected.tensor(2));
    assert_eq!(expected.tensor(1), image);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let result = reference.run(&image).unwrap();
                assert_eq!(result.logits(), expected.logits());
                assert_eq!(result.tensor(0), expected.tensor(0));
            });
        }
    });
}

#[test]
fn the_reference_refuses_what_does_not_fit() {
    let imported = imported(&Architecture::TinyBasic.design());
    let error = Reference::new(&imported, &["nowhere".into()]).err().unwrap().to_string();
    assert!(error.contains("nowhere") && error.contains("tiny-basic"), "{error}");
    let reference = Reference::new(&imported, &[]).unwrap();
    let error = reference.run(&[0.0; 5]).err().unwrap().to_string();
    assert!(error.contains("tiny-basic") && error.contains('5'), "{error}");
}
