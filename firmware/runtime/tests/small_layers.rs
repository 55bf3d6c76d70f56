//! Table, sum, concatenation and enlargement against their formulas, by tract's plan, by the
//! compiled program and through a model file's NNEF.

mod common;

use resight_fixtures::Random;
use resight_runtime::layers::{Add, Concat, Table, Upsample};
use resight_runtime::{Layers, Quantisation, Target};
use tract_nnef::internal::*;

use common::{both_ways, by_program, input, tensor};

const fn quantisation(scale: f32, zero_point: i32) -> Quantisation {
    Quantisation { scale, zero_point }
}

/// The image of 9x7x3 and `wire`'s result as the output.
fn graph(wire: impl FnOnce(&mut TypedModel, OutletId) -> OutletId) -> TypedModel {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
    let output = wire(&mut model, image);
    model.select_output_outlets(&[output]).unwrap();
    model
}

/// The only output of a graph, which is the same in all ways.
fn run(graph: &TypedModel) -> Vec<i8> {
    let layers = Layers::default();
    let outputs = both_ways(graph, &layers);
    let tar = layers.framework().write_to_tar_with_config(graph, vec![], false, true).unwrap();
    let loaded = layers.framework().model_for_read(&mut &tar[..]).unwrap();
    assert_eq!(by_program(&loaded, &layers, Target::reference()), outputs);
    outputs[0].iter().map(|byte| byte.cast_signed()).collect()
}

fn table(seed: u64) -> Table {
    let entries = Random::new(seed).activations(256);
    Table { table: tensor(&[256], &entries), output: quantisation(0.1, 3) }
}

fn looked_up(table: &Table, values: &[i8]) -> Vec<i8> {
    let plain = table.table.try_as_plain_ram().unwrap();
    let entries = plain.as_slice::<i8>().unwrap();
    values.iter().map(|&value| entries[(i32::from(value) + 128) as usize]).collect()
}

#[test]
fn a_table_is_looked_up() {
    let layer = table(1);
    let found = run(&graph(|model, image| model.wire_node("table", layer.clone(), &[image]).unwrap()[0]));
    assert_eq!(found, looked_up(&layer, &input()));
}

#[test]
fn a_sum_is_the_nearest_number() {
    let cases = [
        (quantisation(0.02, -5), quantisation(0.035, 17), quantisation(0.04, -128)),
        (quantisation(0.5, 0), quantisation(0.5, 0), quantisation(0.5, 0)),
        (quantisation(1.0, 127), quantisation(1e-4, -128), quantisation(0.7, 3)),
    ];
    for (a, b, output) in cases {
        let layer = Add::new(a, b, output).unwrap();
        let second = table(2);
        let found = run(&graph(|model, image| {
            let other = model.wire_node("other", second.clone(), &[image]).unwrap()[0];
            model.wire_node("sum", layer.clone(), &[image, other]).unwrap()[0]
        }));
        let pairs = input().into_iter().zip(looked_up(&second, &input()));
        for (found, (x, y)) in found.iter().zip(pairs) {
            let real =
                |q: i8, of: Quantisation| f64::from(of.scale) * f64::from(i32::from(q) - of.zero_point);
            let sum = (real(x, a) + real(y, b)) / f64::from(output.scale) + f64::from(output.zero_point);
            let exact = sum.clamp(-128.0, 127.0);
            // Half a step, and what the rounded multipliers leave.
            assert!((f64::from(*found) - exact).abs() <= 0.5 + 1e-3, "{x} + {y} is {exact}, found {found}");
        }
    }
    // Halves go up: (1 + 2) / 2 and (-1 + -2) / 2.
    let half = Add { multiplier: [1, 1], bias: 0, shift: 1, output: quantisation(1.0, 0) };
    let doubled: Vec<i8> = (0..256).map(|q| ((q - 128) * 2).clamp(-128, 127) as i8).collect();
    let double = Table { table: tensor(&[256], &doubled), output: quantisation(1.0, 0) };
    let found = run(&graph(|model, image| {
        let other = model.wire_node("double", double.clone(), &[image]).unwrap()[0];
        model.wire_node("sum", half, &[image, other]).unwrap()[0]
    }));
    for (found, x) in found.iter().zip(input()) {
        let sum = i32::from(x) + (2 * i32::from(x)).clamp(-128, 127);
        assert_eq!(i32::from(*found), (sum + 1).div_euclid(2).clamp(-128, 127), "{x}");
    }
}

#[test]
fn channels_stand_side_by_side() {
    let layer = table(3);
    let found = run(&graph(|model, image| {
        let other = model.wire_node("other", layer.clone(), &[image]).unwrap()[0];
        let concat = Concat { output: quantisation(0.1, 3) };
        // More inputs than a small vector holds without the heap, one of them twice.
        model.wire_node("concat", concat, &[image, other, image, other, image]).unwrap()[0]
    }));
    let (first, second) = (input(), looked_up(&layer, &input()));
    let expected: Vec<i8> = (0..9 * 7)
        .flat_map(|pixel| {
            [&first, &second, &first, &second, &first].map(|part| part[pixel * 3..][..3].to_vec())
        })
        .flatten()
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn pixels_are_repeated() {
    for factor in [[2, 2], [1, 3], [3, 1], [1, 1]] {
        let found = run(&graph(|model, image| {
            model.wire_node("upsample", Upsample { factor }, &[image]).unwrap()[0]
        }));
        let (height, width) = (9 * factor[0], 7 * factor[1]);
        assert_eq!(found.len(), height * width * 3);
        for (index, value) in found.iter().enumerate() {
            let (y, x, channel) = (index / 3 / width, index / 3 % width, index % 3);
            assert_eq!(
                *value,
                input()[((y / factor[0]) * 7 + x / factor[1]) * 3 + channel],
                "{factor:?} {y} {x}"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusal = |wire: &dyn Fn(&mut TypedModel, OutletId) -> TractResult<TVec<OutletId>>| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        format!("{:#}", wire(&mut model, image).unwrap_err())
    };
    let sum = Add { multiplier: [1, 1], bias: 0, shift: 31, output: quantisation(1.0, 0) };
    for (message, expected) in [
        (
            refusal(&|model, image| {
                let short = Table { table: tensor(&[255], &[0i8; 255]), output: quantisation(1.0, 0) };
                model.wire_node("table", short, &[image])
            }),
            "a table has 256 entries, found 255",
        ),
        (
            refusal(&|model, image| model.wire_node("sum", sum.clone(), &[image])),
            "a sum takes two inputs, found 1",
        ),
        (
            refusal(&|model, image| model.wire_node("sum", sum.clone(), &[image, image])),
            "the shift of a sum is 31, more than 30",
        ),
        (
            refusal(&|model, image| {
                let large = Add { multiplier: [1, (1 << 22) + 1], shift: 0, ..sum.clone() };
                model.wire_node("sum", large, &[image, image])
            }),
            "a sum with multipliers [1, 4194305] and bias 0 does not fit its arithmetic",
        ),
        (
            refusal(&|model, image| {
                let large = model.wire_node("large", Upsample { factor: [2, 1] }, &[image])?[0];
                model.wire_node("concat", Concat { output: quantisation(1.0, 0) }, &[image, large])
            }),
            "the inputs of a concatenation are of several sizes: [[9, 7, 3], [18, 7, 3]]",
        ),
        (
            refusal(&|model, image| model.wire_node("upsample", Upsample { factor: [0, 2] }, &[image])),
            "the factors [0, 2] of an enlargement are not 1 to 64",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
    let error = Add::new(quantisation(1e30, 0), quantisation(1.0, 0), quantisation(1e-30, 0)).unwrap_err();
    assert!(error.to_string().starts_with("no sum of scales"), "{error}");
}
