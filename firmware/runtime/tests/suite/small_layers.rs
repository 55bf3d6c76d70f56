//! Table, sum, concatenation and enlargement against their formulas, by tract's plan, by the
//! compiled program and through a model file's NNEF.

use resight_fixtures::Random;
use resight_runtime::layers::{
    Add, Anomaly, AveragePool, Channels, Concat, Dequantise, Fill, GeneralisedMean, Mahalanobis, Multiply,
    NearestNeighbour, Pad, Table, Upsample, View,
};
use resight_runtime::{Layers, Quantisation, Target};
use tract_nnef::internal::*;

use crate::common::{both_ways, by_program, convolution, input, tensor};

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
fn a_table_for_each_channel_is_looked_up() {
    let entries = Random::new(5).activations(3 * 256);
    let layer = Table { table: tensor(&[3, 256], &entries), output: quantisation(0.1, 3) };
    let found = run(&graph(|model, image| model.wire_node("table", layer, &[image]).unwrap()[0]));
    for (index, (found, value)) in found.iter().zip(input()).enumerate() {
        assert_eq!(*found, entries[index % 3 * 256 + (i32::from(value) + 128) as usize]);
    }
}

/// The cubes of int8 values from -128 on, and where the root of their mean reaches the next step.
fn cubes() -> GeneralisedMean {
    let terms: Vec<i32> = (0..256).map(|step: i32| step.pow(3)).collect();
    let limits: Vec<i32> = (1..256).map(|step: i32| step.pow(3)).collect();
    GeneralisedMean {
        terms: tensor(&[256], &terms),
        limits: tensor(&[255], &limits),
        output: quantisation(0.1, -128),
    }
}

#[test]
fn a_generalised_mean_is_as_documented() {
    let found = run(&graph(|model, image| model.wire_node("mean", cubes(), &[image]).unwrap()[0]));
    for (channel, &found) in found.iter().enumerate() {
        let cube = |&q: &i8| (i64::from(q) + 128).pow(3);
        let mean = input().iter().skip(channel).step_by(3).map(cube).sum::<i64>() / 63;
        let least = (i64::from(found) + 128).pow(3)..(i64::from(found) + 129).pow(3);
        assert!(least.contains(&mean), "{found}: {mean}");
    }
    assert_eq!(found.len(), 3);
    let refused = |layer: GeneralisedMean| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        format!("{:#}", model.wire_node("mean", layer, &[image]).unwrap_err())
    };
    let falling: Vec<i32> = (0..255).rev().collect();
    let table = [
        (
            GeneralisedMean { terms: tensor(&[3], &[1i32, 2, 3]), ..cubes() },
            "256 terms are expected, found 3",
        ),
        (GeneralisedMean { limits: tensor(&[2], &[1i32, 2]), ..cubes() }, "255 limits are expected, found 2"),
        (
            GeneralisedMean { limits: tensor(&[255], &falling), ..cubes() },
            "a limit is less than the one before",
        ),
    ];
    for (layer, expected) in table {
        let found = refused(layer);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_residual_of_one_pixel_is_added_to_all() {
    let wired = |model: &mut TypedModel, image, shape, value| {
        let fill = model.wire_node("fill", Fill { shape, value }, &[image]).unwrap()[0];
        let layer = convolution(&mut Random::new(3), 3, 5, 3, true);
        model.wire_node("convolution", layer, &[image, fill])
    };
    let convolved = |shape, value| run(&graph(|model, image| wired(model, image, shape, value).unwrap()[0]));
    assert_eq!(convolved([1, 1, 5], -9), convolved([9, 7, 5], -9));
    assert_ne!(convolved([1, 1, 5], -9), convolved([1, 1, 5], 9));
    for shape in [[9, 1, 5], [1, 7, 5], [1, 1, 4]] {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        let error = format!("{:#}", wired(&mut model, image, shape, 0).unwrap_err());
        assert!(error.contains("the residual has shape [1, "), "{error}");
    }
}

#[test]
fn a_fill_has_one_value_everywhere() {
    // Beside the image, since a result that is constant would prove nothing of the comparison.
    let layer = Fill { shape: [9, 7, 2], value: -2 };
    let found = run(&graph(|model, image| {
        let fill = model.wire_node("fill", layer, &[image]).unwrap()[0];
        let concat = Concat { output: quantisation(0.1, 3) };
        model.wire_node("concat", concat, &[image, fill]).unwrap()[0]
    }));
    let expected: Vec<i8> =
        input().chunks(3).flat_map(|pixel| pixel.iter().copied().chain([-2, -2])).collect();
    assert_eq!(found, expected);
    let refused = |shape: [usize; 3]| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        format!("{:#}", model.wire_node("fill", Fill { shape, value: 0 }, &[image]).unwrap_err())
    };
    assert!(refused([0, 1, 1]).contains("a fill cannot have the shape [0, 1, 1]"));
    assert!(refused([1 << 40, 1 << 40, 1]).contains("a fill cannot have the shape"));
}

#[test]
fn logits_are_dequantised() {
    let view = View { shape: [1, 1, 189] };
    let layer = Dequantise { input: quantisation(0.25, -7) };
    let graph = graph(|model, image| {
        let flat = model.wire_node("view", view, &[image]).unwrap();
        model.wire_node("logits", layer, &flat).unwrap()[0]
    });
    let outputs = both_ways(&graph, &Layers::default());
    let (floats, _) = outputs[0].as_chunks::<4>();
    let found: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let expected: Vec<f32> = input().iter().map(|&q| 0.25 * (f32::from(q) + 7.0)).collect();
    assert_eq!(found, expected);
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
    let wrong = Dequantise { input: quantisation(0.25, -7) };
    let refused = format!("{:#}", model.wire_node("logits", wrong, &[image]).unwrap_err());
    assert!(refused.contains("logits are of one position, found [1, 9, 7, 3]"), "{refused}");
}

/// The nearest step to a real number, as far as rounded multipliers find it.
fn assert_near(found: i8, real: f64, output: Quantisation) {
    let exact = (real / f64::from(output.scale) + f64::from(output.zero_point)).clamp(-128.0, 127.0);
    assert!((f64::from(found) - exact).abs() <= 0.51, "{found} is not {exact}");
}

fn real(q: i8, of: Quantisation) -> f64 {
    f64::from(of.scale) * f64::from(i32::from(q) - of.zero_point)
}

/// What makes a gate of an image, and which of its values belongs to a position of the image.
type Gate<'a> = (&'a dyn Fn(&mut TypedModel, OutletId) -> OutletId, fn(usize) -> usize);

#[test]
fn products_are_the_nearest_numbers() {
    let (a, gate) = (quantisation(0.02, -5), quantisation(1.0 / 255.0, -128));
    let output = quantisation(0.019, -7);
    let layer = Multiply::new(a, gate, output).unwrap();
    // A gate of channels, of positions, and a second image.
    let of_channels = |model: &mut TypedModel, image| {
        let pool = AveragePool {
            kernel: [9, 7],
            stride: [1, 1],
            padding: [0; 4],
            counts_padding: false,
            input_zero_point: 0,
            multiplier: 40,
            shift: 3,
            output: quantisation(0.1, 3),
        };
        model.wire_node("gate", pool, &[image]).unwrap()[0]
    };
    let of_positions = |model: &mut TypedModel, image| {
        model.wire_node("gate", Channels { order: vec![1] }, &[image]).unwrap()[0]
    };
    let of_both = |model: &mut TypedModel, image| model.wire_node("gate", table(4), &[image]).unwrap()[0];
    let gates: [Gate<'_>; 3] =
        [(&of_channels, |at| at % 3), (&of_positions, |at| at / 3), (&of_both, |at| at)];
    for (wire, at) in gates {
        let values = run(&graph(|model, image| wire(model, image)));
        let found = run(&graph(|model, image| {
            let gate = wire(model, image);
            model.wire_node("product", layer.clone(), &[image, gate]).unwrap()[0]
        }));
        for (index, (found, x)) in found.iter().zip(input()).enumerate() {
            assert_near(*found, real(x, a) * real(values[at(index)], gate), output);
        }
    }
    // The largest numbers fit their arithmetic.
    let largest =
        Multiply { zero_points: [127, 127], multiplier: 1 << 14, shift: 22, output: quantisation(1.0, 0) };
    let found = run(&graph(|model, image| model.wire_node("product", largest, &[image, image]).unwrap()[0]));
    for (found, x) in found.iter().zip(input()) {
        let product = (i64::from(x) - 127).pow(2) * (1 << 14) + (1 << 21);
        assert_eq!(i64::from(*found), (product >> 22).min(127));
    }
}

#[test]
fn products_of_others_are_rounded_where_theirs_are() {
    // A gate of a MobileNetV3: 34 x 11 steps are 15.49985 of the output, which 14 bits make 15.50003 of.
    let (a, gate) = (quantisation(0.060_860_243, -122), quantisation(0.003_921_569, -128));
    let output = quantisation(0.059_929_27, -122);
    let moved = |x: i8| if x >= 0 { -94 } else { x };
    let products = |layer: Multiply, gate: i8| {
        run(&graph(|model, image| {
            let values: Vec<i8> = (i8::MIN..=i8::MAX).map(moved).collect();
            let a = Table { table: tensor(&[256], &values), output: a };
            let gate = Table { table: tensor(&[256], &[gate; 256]), output: a.output };
            let one = model.wire_node("a", a, &[image]).unwrap()[0];
            let two = model.wire_node("gate", gate, &[image]).unwrap()[0];
            model.wire_node("product", layer.clone(), &[one, two]).unwrap()[0]
        }))
    };
    let at = input().iter().position(|&x| x >= 0).unwrap();
    let exact = Multiply::exact(a, gate, output).unwrap();
    assert_eq!(products(Multiply::new(a, gate, output).unwrap(), 11)[at], -106);
    assert_eq!(products(exact.clone(), 11)[at], -107);
    for y in [-3, 99] {
        for (found, x) in products(exact.clone(), y).into_iter().zip(input()) {
            let steps = real(moved(x), a) * real(y, gate) / f64::from(output.scale);
            assert_eq!(f64::from(found), (steps.round() - 122.0).clamp(-128.0, 127.0), "{x} and {y}");
        }
    }
}

#[test]
fn averages_are_the_nearest_numbers() {
    let (from, output) = (quantisation(0.5, 9), quantisation(0.2, -3));
    let (multiplier, shift) = AveragePool::rescale(from, output).unwrap();
    for (kernel, stride, padding, counts_padding) in [
        ([9, 7], [1, 1], [0; 4], false),
        ([3, 3], [1, 1], [1; 4], false),
        ([3, 3], [2, 2], [1, 1, 1, 1], true),
        ([2, 3], [2, 1], [0, 1, 1, 2], false),
    ] {
        let layer = AveragePool {
            kernel,
            stride,
            padding,
            counts_padding,
            input_zero_point: from.zero_point,
            multiplier,
            shift,
            output,
        };
        let found = run(&graph(|model, image| model.wire_node("pool", layer, &[image]).unwrap()[0]));
        let columns = (7 + padding[1] + padding[3] - kernel[1]) / stride[1] + 1;
        for (index, found) in found.iter().enumerate() {
            let (y, x, channel) =
                (index / 3 / columns * stride[0], index / 3 % columns * stride[1], index % 3);
            let (mut sum, mut count) = (0.0, 0);
            for (y, x) in (y..y + kernel[0]).flat_map(|y| (x..x + kernel[1]).map(move |x| (y, x))) {
                let inside =
                    (padding[0]..padding[0] + 9).contains(&y) && (padding[1]..padding[1] + 7).contains(&x);
                if inside {
                    sum += real(input()[((y - padding[0]) * 7 + x - padding[1]) * 3 + channel], from);
                }
                count += usize::from(inside || counts_padding);
            }
            assert_near(*found, sum / count as f64, output);
        }
    }
}

#[test]
fn channels_are_chosen_and_shapes_changed() {
    for order in [vec![1, 2], vec![2, 0, 0, 1], vec![0]] {
        let layer = Channels { order: order.clone() };
        let found = run(&graph(|model, image| model.wire_node("channels", layer, &[image]).unwrap()[0]));
        let expected: Vec<i8> =
            input().chunks(3).flat_map(|pixel| order.iter().map(|&c| pixel[c]).collect::<Vec<_>>()).collect();
        assert_eq!(found, expected);
    }
    for (reflects, padding) in [(true, [2, 1, 0, 6]), (false, [1, 9, 12, 0])] {
        let found = run(&graph(|model, image| {
            model.wire_node("pad", Pad { padding, reflects }, &[image]).unwrap()[0]
        }));
        let width = 7 + padding[1] + padding[3];
        assert_eq!(found.len(), (9 + padding[0] + padding[2]) * width * 3);
        let source = |at: usize, before: usize, length: i64| {
            let at = at as i64 - before as i64;
            match (reflects, at) {
                (true, at) if at < 0 => -at,
                (true, at) if at >= length => 2 * (length - 1) - at,
                _ => at.clamp(0, length - 1),
            }
        };
        for (index, value) in found.iter().enumerate() {
            let (y, x) = (source(index / 3 / width, padding[0], 9), source(index / 3 % width, padding[1], 7));
            assert_eq!(*value, input()[(y * 7 + x) as usize * 3 + index % 3], "{reflects} {index}");
        }
    }
    let layer = View { shape: [1, 1, 9 * 7 * 3] };
    let found = run(&graph(|model, image| model.wire_node("view", layer, &[image]).unwrap()[0]));
    assert_eq!(found, input());
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

#[expect(clippy::too_many_lines, reason = "a table of refusals")]
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
            refusal(&|model, image| model.wire_node("channels", Channels { order: vec![3] }, &[image])),
            "a choice of 1 channels does not fit an input of 3",
        ),
        (
            refusal(&|model, image| {
                model.wire_node("pad", Pad { padding: [9, 0, 0, 0], reflects: true }, &[image])
            }),
            "a border of [9, 0, 0, 0] does not fit an image of 9 x 7",
        ),
        (
            refusal(&|model, image| model.wire_node("view", View { shape: [1, 2, 3] }, &[image])),
            "an activation of [9, 7, 3] cannot become one of [1, 2, 3]",
        ),
        (
            refusal(&|model, image| {
                let two = model.wire_node("two", Channels { order: vec![0, 1] }, &[image])?[0];
                let product =
                    Multiply { zero_points: [0; 2], multiplier: 1, shift: 0, output: quantisation(1.0, 0) };
                model.wire_node("product", product, &[image, two])
            }),
            "an activation of [9, 7, 3] cannot be multiplied with one of [9, 7, 2]",
        ),
        (
            refusal(&|model, image| {
                let product =
                    Multiply { zero_points: [0; 2], multiplier: 1, shift: 32, output: quantisation(1.0, 0) };
                model.wire_node("product", product, &[image, image])
            }),
            "multiplier 1 and shift 32 does not fit its arithmetic",
        ),
        (
            refusal(&|model, image| {
                let table = Table { table: tensor(&[2, 256], &[0i8; 512]), output: quantisation(1.0, 0) };
                model.wire_node("table", table, &[image])
            }),
            "a table for each channel has 2 of them, the input 3",
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

/// The only output of a graph as numbers, which are the same in all ways.
fn distances(graph: &TypedModel) -> Vec<f32> {
    let bytes: Vec<u8> = run(graph).into_iter().map(i8::cast_unsigned).collect();
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
}

#[test]
fn places_are_compared_with_what_is_typical_of_them() {
    let mut random = Random::new(21);
    let (places, rows) = (9 * 7, 2);
    let weights = random.weights(places * rows * 3);
    let bias: Vec<i32> = (0..places * rows).map(|_| random.below(4000) as i32 - 2000).collect();
    let scale: Vec<f32> = (0..places * rows).map(|_| 0.001 * (1 + random.below(9)) as f32).collect();
    let layer = Mahalanobis {
        weights: tensor(&[places, rows, 3], &weights),
        bias: tensor(&[places, rows], &bias),
        scale: tensor(&[places, rows], &scale),
    };
    let found = distances(&graph(|model, image| model.wire_node("map", layer, &[image]).unwrap()[0]));
    for (place, (found, pixel)) in found.iter().zip(input().chunks_exact(3)).enumerate() {
        let row = |row: usize| {
            let at = place * rows + row;
            let products =
                weights[at * 3..][..3].iter().zip(pixel).map(|(&a, &b)| i32::from(a) * i32::from(b));
            f64::from(products.sum::<i32>() + bias[at]) * f64::from(scale[at])
        };
        let expected = (row(0).powi(2) + row(1).powi(2)).sqrt();
        assert!(
            (f64::from(*found) - expected).abs() < 1e-5 * expected.max(1.0),
            "{place}: {found} {expected}"
        );
    }
}

#[test]
fn places_are_compared_with_the_nearest_that_is_known() {
    // More rows than are multiplied at a time.
    let memory = Random::new(22).weights(300 * 3);
    let layer = NearestNeighbour { memory: tensor(&[300, 3], &memory), scale: 0.25 };
    let found = distances(&graph(|model, image| model.wire_node("map", layer, &[image]).unwrap()[0]));
    for (found, pixel) in found.iter().zip(input().chunks_exact(3)) {
        let square = |row: &[i8]| -> i32 {
            row.iter().zip(pixel).map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2)).sum()
        };
        let nearest = memory.chunks_exact(3).map(square).min().unwrap();
        assert_eq!(*found, (nearest as f32).sqrt() * 0.25);
    }
}

#[test]
fn an_anomaly_has_a_logit_and_a_map() {
    let memory = Random::new(23).weights(3);
    let graph = graph(|model, image| {
        let nearest = NearestNeighbour { memory: tensor(&[1, 3], &memory), scale: 0.01 };
        let map = model.wire_node("map", nearest, &[image]).unwrap()[0];
        model.wire_node("anomaly", Anomaly { farthest: 3, threshold: 1.0, slope: 4.0 }, &[map]).unwrap()[0]
    });
    let found = distances(&graph);
    assert_eq!(found.len(), 2);
    let mut map: Vec<f32> = input()
        .chunks_exact(3)
        .map(|pixel| {
            let square = pixel.iter().zip(&memory).map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2));
            (square.sum::<i32>() as f32).sqrt() * 0.01
        })
        .collect();
    map.sort_by(|a, b| b.total_cmp(a));
    let expected = 4.0 * ((map[0] + map[1] + map[2]) / 3.0).ln();
    assert!(found[0] == 0.0 && (found[1] - expected).abs() < 1e-4, "{found:?} {expected}");
}

#[test]
fn anomalies_that_do_not_fit_are_refused() {
    let refusal = |layer: Box<dyn TypedOp>| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        format!("{:#}", model.wire_node("map", layer, &[image]).unwrap_err())
    };
    let zeros = |shape: &[usize]| tensor(shape, &vec![0_i8; shape.iter().product()]);
    let places = |weights: &[usize], rows: &[usize]| {
        let count = rows.iter().product();
        Box::new(Mahalanobis {
            weights: zeros(weights),
            bias: tensor(rows, &vec![0_i32; count]),
            scale: tensor(rows, &vec![1_f32; count]),
        })
    };
    let cases: [(Box<dyn TypedOp>, &str); 5] = [
        (
            places(&[62, 2, 3], &[62, 2]),
            "the weights are for 62 places of 3 features, the input has 9 x 7 of 3",
        ),
        (places(&[63, 2, 3], &[63, 1]), "the bias has the shape [63, 1], not [63, 2]"),
        (
            Box::new(NearestNeighbour { memory: zeros(&[5, 4]), scale: 1.0 }),
            "the memory is of 4 features, the input has 3",
        ),
        (
            Box::new(NearestNeighbour { memory: zeros(&[5, 3]), scale: 0.0 }),
            "the scale of distances is 0, no positive number",
        ),
        (Box::new(Anomaly { farthest: 1, threshold: 1.0, slope: 1.0 }), "expected an input of F32, found I8"),
    ];
    for (layer, expected) in cases {
        let error = refusal(layer);
        assert!(error.contains(expected), "{error}");
    }
}
