//! Import of real networks, from the folder that `RESIGHT_SHARED` names.

mod common;

use resight::graph::Operator;
use resight::import::{Imported, import};
use resight_fixtures::shared;

fn zoo(name: &str) -> Option<Imported> {
    let path = shared()?.join("zoo").join(name);
    Some(import(&path).unwrap_or_else(|error| panic!("{error}")))
}

/// Convolutions, residual additions in them, and all nodes.
fn count(imported: &Imported) -> [usize; 3] {
    let convolutions = imported.graph.nodes.iter().filter_map(|n| match &n.operator {
        Operator::Convolution(c) => Some(c.residual),
        _ => None,
    });
    let residuals = convolutions.clone().filter(|&r| r).count();
    [convolutions.count(), residuals, imported.graph.nodes.len()]
}

#[test]
fn resnet18() {
    let Some(imported) = zoo("resnet18.onnx") else { return };
    assert_eq!(count(&imported), [20, 8, 24]);
    common::assert_equals_tract(&imported);
}

#[test]
fn resnet50() {
    let Some(imported) = zoo("resnet50.onnx") else { return };
    assert_eq!(count(&imported), [53, 16, 57]);
    common::assert_equals_tract(&imported);
}

#[test]
fn resnet20_with_batch_normalisation() {
    let Some(imported) = zoo("resnet20_cifar10_bn.onnx") else { return };
    // 19 of the network and the selections of two shortcuts.
    assert_eq!(count(&imported), [21, 9, 24]);
    common::assert_equals_tract(&imported);
}

#[test]
fn resnet56() {
    let Some(imported) = zoo("resnet56_cifar10.onnx") else { return };
    assert_eq!(count(&imported), [57, 27, 60]);
    common::assert_equals_tract(&imported);
}
