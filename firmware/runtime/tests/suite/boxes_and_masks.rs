//! Interpolation and phases against their formulas, boxes and masks against a plain search; all in
//! ways that must agree: tract's plan, the compiled program, and through a model file.

use resight_fixtures::Random;
use resight_kernels::Sequential;
use resight_model_file::{Activation, BoxDecoder, CenterNet, LengthUnit, OutputMap, Task};
use resight_runtime::layers::{Channels, Interleave, Resize, Table};
use resight_runtime::{
    Bounds, BoxHead, Detection, Head, HeadError, Layers, MaskHead, Program, Quantisation, Target, TensorFact,
};
use tract_nnef::internal::*;

use crate::common::{both_ways, by_program, input, tensor};

/// The image of 9x7x3 and `wire`'s result as the output, which is the same in all ways.
fn run(wire: impl FnOnce(&mut TypedModel, OutletId) -> OutletId) -> Vec<i8> {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
    let output = wire(&mut model, image);
    model.select_output_outlets(&[output]).unwrap();
    let layers = Layers::default();
    let outputs = both_ways(&model, &layers);
    let tar = layers.framework().write_to_tar_with_config(&model, vec![], false, true).unwrap();
    let loaded = layers.framework().model_for_read(&mut &tar[..]).unwrap();
    assert_eq!(by_program(&loaded, &layers, Target::reference()), outputs);
    outputs[0].iter().map(|byte| byte.cast_signed()).collect()
}

#[test]
fn images_are_interpolated_as_documented() {
    let mut random = Random::new(11);
    let mut axis = |length: usize, count: usize| -> Vec<(usize, f64)> {
        let share = |random: &mut Random| f64::from(random.below(2049) as u32) / 2048.0;
        (0..count).map(|_| (random.below(length), share(&mut random))).collect()
    };
    for size in [[9, 7], [1, 1], [20, 3], [5, 31]] {
        // The last one has nothing behind it.
        let (mut rows, columns) = (axis(8, size[0]), axis(6, size[1]));
        rows[0] = (8, 0.25);
        let layer = Resize::new(&rows, &columns).unwrap();
        let found = run(|model, image| model.wire_node("resize", layer, &[image]).unwrap()[0]);
        let image = input();
        for (index, found) in found.iter().enumerate() {
            let (y, x, channel) = (index / 3 / size[1], index / 3 % size[1], index % 3);
            let pair = |(first, share): (usize, f64), length: usize| {
                let weight = (share * 2048.0).round() as i64;
                [(first.min(length - 1), 2048 - weight), ((first + 1).min(length - 1), weight)]
            };
            let mut sum = 1 << 21;
            for (row, of_row) in pair(rows[y], 9) {
                for (column, of_column) in pair(columns[x], 7) {
                    sum += of_row * of_column * i64::from(image[(row * 7 + column) * 3 + channel]);
                }
            }
            assert_eq!(i64::from(*found), sum >> 22, "{size:?} {y} {x}");
        }
    }
    // All pixels between equal ones are equal, the lowest and the highest too.
    for value in [-128i8, -1, 0, 127] {
        let plain = Table {
            table: tensor(&[256], &[value; 256]),
            output: Quantisation { scale: 1.0, zero_point: 0 },
        };
        let layer = Resize::new(&axis(8, 4), &axis(6, 4)).unwrap();
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        let plain = model.wire_node("plain", plain, &[image]).unwrap();
        let output = model.wire_node("resize", layer, &plain).unwrap();
        model.select_output_outlets(&output).unwrap();
        let found = by_program(&model, &Layers::default(), Target::reference());
        assert_eq!(found, [vec![value.cast_unsigned(); 4 * 4 * 3]]);
    }
}

#[test]
fn phases_take_turns() {
    let output = Quantisation { scale: 0.5, zero_point: 3 };
    for (factor, size) in [([2, 2], [18, 14]), ([1, 3], [9, 21]), ([1, 1], [9, 7])] {
        let found = run(|model, image| {
            let phases: Vec<OutletId> = (0..factor[0] * factor[1])
                .map(|phase| {
                    let order = (0..3).map(|channel| (channel + phase) % 3).collect();
                    model.wire_node(format!("phase{phase}"), Channels { order }, &[image]).unwrap()[0]
                })
                .collect();
            model.wire_node("together", Interleave { factor, size, output }, &phases).unwrap()[0]
        });
        let image = input();
        assert_eq!(found.len(), size[0] * size[1] * 3);
        for (index, found) in found.iter().enumerate() {
            let (y, x, channel) = (index / 3 / size[1], index / 3 % size[1], index % 3);
            let phase = y % factor[0] * factor[1] + x % factor[1];
            let at = (y / factor[0] * 7 + x / factor[1]) * 3 + (channel + phase) % 3;
            assert_eq!(*found, image[at], "{factor:?} {y} {x}");
        }
    }
    // Where the size is no multiple, later phases are smaller: here the image itself, and its rows
    // without the last.
    let found = run(|model, image| {
        let rows: Vec<(usize, f64)> = (0..8).map(|row| (row, 0.0)).collect();
        let columns: Vec<(usize, f64)> = (0..7).map(|column| (column, 0.0)).collect();
        let shorter = Resize::new(&rows, &columns).unwrap();
        let shorter = model.wire_node("shorter", shorter, &[image]).unwrap()[0];
        let layer = Interleave { factor: [2, 1], size: [17, 7], output };
        model.wire_node("together", layer, &[image, shorter]).unwrap()[0]
    });
    let image = input();
    for (row, found) in found.chunks_exact(21).enumerate() {
        assert_eq!(found, &image[row / 2 * 21..][..21], "{row}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusal = |wire: &dyn Fn(&mut TypedModel, OutletId) -> TractResult<TVec<OutletId>>| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        format!("{:#}", wire(&mut model, image).unwrap_err())
    };
    let output = Quantisation { scale: 1.0, zero_point: 0 };
    let interleave = |factor: [usize; 2], size: [usize; 2]| Interleave { factor, size, output };
    let resize = |rows: &[i32], columns: &[i32]| Resize {
        rows: tensor(&[2, rows.len() / 2], rows),
        columns: tensor(&[2, columns.len() / 2], columns),
    };
    let table = [
        (
            refusal(&|model, image| model.wire_node("i", interleave([2, 1], [18, 7]), &[image])),
            "2 phases are put together, found 1",
        ),
        (
            refusal(&|model, image| model.wire_node("i", interleave([2, 1], [16, 7]), &[image, image])),
            "phase 0 is [9, 7, 3], expected [8, 7, 3]",
        ),
        (
            refusal(&|model, image| model.wire_node("i", interleave([65, 1], [65, 7]), &[image])),
            "phases [65, 1] cannot be put together to 65 x 7",
        ),
        (
            refusal(&|model, image| model.wire_node("r", resize(&[9, 0], &[0, 0]), &[image])),
            "a place of a resize is outside of 0..9",
        ),
        (
            refusal(&|model, image| model.wire_node("r", resize(&[0, 0], &[-1, 0]), &[image])),
            "a place of a resize is outside of 0..7",
        ),
        (
            refusal(&|model, image| model.wire_node("r", resize(&[0, 2048], &[0, 0]), &[image])),
            "the weight 2048 of a resize is not in 0..2048",
        ),
        (
            refusal(&|model, image| model.wire_node("r", resize(&[], &[0, 0]), &[image])),
            "a resize to 0 rows or columns",
        ),
    ];
    for (found, expected) in table {
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }
}

/// A network of 9 x 7 pixels whose outputs are its image's channels in these orders.
fn copies(orders: &[&[usize]]) -> TypedModel {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
    let outputs: Vec<OutletId> = orders
        .iter()
        .enumerate()
        .map(|(index, order)| {
            model.wire_node(format!("o{index}"), Channels { order: order.to_vec() }, &[image]).unwrap()[0]
        })
        .collect();
    model.select_output_outlets(&outputs).unwrap();
    model
}

fn map(name: &str, scale: f32, zero_point: i32, activation: Option<Activation>) -> OutputMap {
    OutputMap { name: name.into(), scale, zero_point, activation }
}

fn facts(channels: &[usize]) -> Vec<TensorFact> {
    channels.iter().map(|&channels| TensorFact::activation([9, 7, channels])).collect()
}

fn centernet() -> CenterNet {
    CenterNet { threshold: 0.4, overlap: 0.3, most: 7, ..CenterNet::default() }
}

fn maps() -> Vec<OutputMap> {
    vec![
        map("heatmap", 0.05, 40, Some(Activation::Sigmoid)),
        map("size", 0.02, -128, None),
        map("offset", 0.004, -128, None),
    ]
}

#[test]
fn boxes_are_those_of_a_plain_search() {
    let (orders, input_size): ([&[usize]; 3], _) = ([&[0, 1], &[1, 2], &[2, 0]], [36, 14]);
    let model = copies(&orders);
    let mut program = Program::compile(&model, &Layers::default(), &Target::reference()).unwrap();
    let decoder = BoxDecoder::CenterNet(centernet());
    let head = BoxHead::new(maps(), decoder, &facts(&[2, 2, 2]), input_size).unwrap();
    assert_eq!(head.classes(), 2);
    let mut memory = head.memory();
    let mut found = 0;
    for seed in 0..40 {
        let image: Vec<i8> = Random::new(seed).activations(9 * 7 * 3);
        // Few different values, so that neighbours are often equal.
        let image: Vec<i8> = image.iter().map(|value| value / 24 * 24).collect();
        let outputs = program.run(&Sequential, &image).unwrap();
        head.decode(outputs, &mut memory).unwrap();
        let expected = searched(&image, &orders);
        assert_eq!(memory.boxes().len(), expected.len(), "{seed}");
        for (found, expected) in memory.boxes().iter().zip(&expected) {
            assert_eq!((found.class, found.score.to_bits()), (expected.class, expected.score.to_bits()));
            assert!(found.bounds.overlap(&expected.bounds) > 0.999, "{found:?} {expected:?}");
        }
        found += expected.len();
        let again = allocation_counter::measure(|| head.decode(outputs, &mut memory).unwrap());
        assert_eq!(again.count_total, 0);
    }
    assert!(found > 100, "{found}");
    // Nothing is as likely as that.
    let sure = head.with_threshold(1.0);
    sure.decode(program.run(&Sequential, &[127; 9 * 7 * 3]).unwrap(), &mut memory).unwrap();
    assert_eq!(memory.boxes(), []);
}

/// What [`BoxHead`] documents, in f64 and without a thought for time.
fn searched(image: &[i8], orders: &[&[usize]; 3]) -> Vec<Detection> {
    let value = |output: usize, y: usize, x: usize, channel: usize| {
        let map = &maps()[output];
        let q = image[(y * 7 + x) * 3 + orders[output][channel]];
        map.scale * (i32::from(q) - map.zero_point) as f32
    };
    let score = |logit: f32| {
        let mut one = [logit];
        resight_runtime::sigmoid(&mut one);
        one[0]
    };
    let mut peaks = vec![];
    for class in 0..2 {
        for (y, x) in (0..9usize).flat_map(|y| (0..7usize).map(move |x| (y, x))) {
            let heat = value(0, y, x, class);
            let around = (y.saturating_sub(1)..(y + 2).min(9))
                .flat_map(|y| (x.saturating_sub(1)..(x + 2).min(7)).map(move |x| (y, x)));
            if score(heat) >= 0.4 && { around }.all(|(y, x)| value(0, y, x, class) <= heat) {
                peaks.push((heat, class, y, x));
            }
        }
    }
    peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
    peaks.truncate(7);
    let mut kept: Vec<Detection> = vec![];
    for (heat, class, y, x) in peaks {
        // Cells of 4 x 2 pixels.
        let middle = [(y as f32 + value(2, y, x, 1)) * 4.0, (x as f32 + value(2, y, x, 0)) * 2.0];
        let half = [value(1, y, x, 1) * 4.0 / 2.0, value(1, y, x, 0) * 2.0 / 2.0];
        let bounds = Bounds {
            left: middle[1] - half[1],
            top: middle[0] - half[0],
            right: middle[1] + half[1],
            bottom: middle[0] + half[0],
        };
        let is_hidden =
            kept.iter().any(|better| better.class == class && better.bounds.overlap(&bounds) > 0.3);
        if !is_hidden {
            kept.push(Detection { class, score: score(heat), bounds });
        }
    }
    kept
}

#[test]
fn a_single_place_is_no_map() {
    let fact = TensorFact::activation([1, 1, 3]);
    let error = MaskHead::new(vec![map("logits", 0.1, 3, None)], "logits", vec![], &[fact]).unwrap_err();
    assert_eq!(error, HeadError::OnePlace("logits".into()));
}

#[test]
fn a_mask_has_the_likeliest_class_of_each_position() {
    let model = copies(&[&[0, 1, 2], &[1]]);
    let mut program = Program::compile(&model, &Layers::default(), &Target::reference()).unwrap();
    let maps = vec![map("out", 0.1, 3, None), map("one", 0.1, 5, Some(Activation::Sigmoid))];
    let of = |name: &str| MaskHead::new(maps.clone(), name, vec![], &facts(&[3, 1])).unwrap();
    let image = input();
    let outputs = program.run(&Sequential, &image).unwrap();
    let mut mask = vec![];
    of("out").decode(outputs, &mut mask).unwrap();
    for (scores, &class) in image.chunks_exact(3).zip(&mask) {
        let best = scores.iter().max().unwrap();
        assert_eq!(scores.iter().position(|score| score == best), Some(usize::from(class)));
    }
    let head = of("one");
    let allocated = allocation_counter::measure(|| head.decode(outputs, &mut mask).unwrap());
    assert_eq!((allocated.count_total, head.classes(), head.size()), (0, 2, [9, 7]));
    for (scores, &class) in image.chunks_exact(3).zip(&mask) {
        assert_eq!(u8::from(scores[1] > 5), class);
    }
    assert_eq!(
        [0, 1, 2, 15].map(|class| head.colour(class)),
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128]]
    );
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let boxes = |decoder: CenterNet, maps: Vec<OutputMap>, channels: &[usize]| {
        let task = Task::Boxes { outputs: maps, decoder: BoxDecoder::CenterNet(decoder) };
        Head::new(task, &facts(channels), [36, 28]).unwrap_err().to_string()
    };
    let mask = |map: &str, colours: Vec<[u8; 3]>, channels: usize| {
        let task = Task::Mask { outputs: vec![self::map("out", 1.0, 0, None)], map: map.into(), colours };
        Head::new(task, &facts(&[channels]), [36, 28]).unwrap_err().to_string()
    };
    let softmax = vec![map("heatmap", 1.0, 0, Some(Activation::Softmax)), maps().remove(1), maps().remove(2)];
    let table = [
        (
            boxes(centernet(), maps(), &[2, 4, 2]),
            "the output `size` has 4 channels, expected 2: width and height",
        ),
        (
            boxes(centernet(), maps(), &[2, 2, 1]),
            "the output `offset` has 1 channels, expected 2: the places to the right and downwards",
        ),
        (boxes(centernet(), maps(), &[2, 2]), "task.json describes 3 outputs, the network has 2"),
        (
            boxes(CenterNet { size: "wh".into(), ..centernet() }, maps(), &[2, 2, 2]),
            "there is no output `wh`; there are `heatmap`, `size`, `offset`; say by `--decoder` what each is for",
        ),
        (
            boxes(CenterNet { threshold: 1.5, ..centernet() }, maps(), &[2, 2, 2]),
            "the decoder's `threshold` is 1.5; 0 to 1 is needed",
        ),
        (
            boxes(CenterNet { most: 0, ..centernet() }, maps(), &[2, 2, 2]),
            "the decoder's `most` is 0; 1 to 1000 boxes are possible",
        ),
        (
            boxes(CenterNet { unit: LengthUnit::Pixels, ..centernet() }, softmax, &[2, 2, 2]),
            "the output `heatmap` ends in softmax, which its use in the decoder does not take",
        ),
        (mask("out", vec![[0; 3]], 3), "there are 1 colours for 3 classes"),
        (mask("out", vec![], 257), "the output `out` has 257 channels, expected 256 classes at most"),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
    let task = Task::Mask { outputs: vec![map("out", 0.0, 0, None)], map: "out".into(), colours: vec![] };
    let error = Head::new(task, &facts(&[3]), [36, 28]).unwrap_err().to_string();
    assert_eq!(error, "the output `out` has the scale 0 and the zero point 0");
    let row = [TensorFact::new(DatumType::F32, &[1, 3])];
    let task = Task::Mask { outputs: vec![map("out", 1.0, 0, None)], map: "out".into(), colours: vec![] };
    let error = Head::new(task, &row, [36, 28]).unwrap_err().to_string();
    assert_eq!(error, "the output `out` is 1x3 F32, not an int8 map of [1, height, width, channels]");
}
