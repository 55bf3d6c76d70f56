//! Boxes from anchors and from distances to edges against a plain search in f64, of int8 and of real
//! outputs; and the normalisation that SSD has before its first level.

use resight_fixtures::Random;
use resight_kernels::Sequential;
use resight_model_file::{
    Activation, AnchorClip, AnchorLevel, AnchorShapes, Anchors, BoxDecoder, Fcos, LengthUnit, OutputMap,
    OutputNames, level_name,
};
use resight_runtime::layers::{Channels, Normalise};
use resight_runtime::{
    BoxHead, Detection, Detections, Layers, Outputs, Program, Quantisation, Target, TensorFact,
};
use tract_nnef::internal::*;

use crate::common::{both_ways, input, tensor};

/// `[height, width]` of the maps and of the image.
const MAP: [usize; 2] = [5, 4];
const IMAGE: [usize; 2] = [40, 48];

/// A network whose outputs have so many channels each, all of them its image's.
fn parts(channels: &[usize]) -> Program {
    let all = channels.iter().sum();
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, MAP[0], MAP[1], all])).unwrap();
    let (mut first, mut outputs) = (0, vec![]);
    for (index, &count) in channels.iter().enumerate() {
        let order = (first..first + count).collect();
        outputs.push(model.wire_node(format!("o{index}"), Channels { order }, &[image]).unwrap()[0]);
        first += count;
    }
    model.select_output_outlets(&outputs).unwrap();
    Program::compile(&model, &Layers::default(), &Target::reference()).unwrap()
}

fn facts(channels: &[usize]) -> Vec<TensorFact> {
    channels.iter().map(|&channels| TensorFact::activation([MAP[0], MAP[1], channels])).collect()
}

fn map(name: String, scale: f32, zero_point: i32, activation: Option<Activation>) -> OutputMap {
    OutputMap { name, scale, zero_point, activation }
}

/// Two levels of the outputs `box` and `score`, with the scores of so many channels for each anchor.
fn maps(activation: Activation) -> Vec<OutputMap> {
    vec![
        map(level_name("score", 1), 0.0613, 5, Some(activation)),
        map(level_name("box", 0), 0.011, -7, None),
        map(level_name("score", 0), 0.05, -20, Some(activation)),
        map(level_name("box", 1), 0.013, 3, None),
    ]
}

/// Channels of these: of three and two anchors.
fn channels(scores: usize) -> [usize; 4] {
    [2 * scores, 12, 3 * scores, 8]
}

fn anchors(background: Option<usize>) -> Anchors {
    let priors = AnchorShapes::Priors { least: 6.0, greatest: None, ratios: vec![2.0] };
    let listed = AnchorShapes::Listed { sizes: vec![[20.0, 9.0], [60.0, 30.0]] };
    Anchors {
        boxes: "box".into(),
        scores: "score".into(),
        background,
        weights: [2.0, 3.0, 1.5, 1.0],
        largest: 0.8,
        levels: vec![
            AnchorLevel { stride: None, offset: 0.5, shapes: priors },
            AnchorLevel { stride: Some(9.0), offset: 0.25, shapes: listed },
        ],
        threshold: 0.55,
        overlap: 0.4,
        candidates: 60,
        most: 12,
        ..Anchors::ssd300()
    }
}

/// The reals of an output, as its bytes stand for them.
fn reals(outputs: Outputs<'_>, index: usize, map: &OutputMap) -> Vec<f32> {
    let bytes = outputs.get(index).unwrap().slice::<i8>().unwrap();
    bytes.iter().map(|&q| map.scale * (i32::from(q) - map.zero_point) as f32).collect()
}

/// A box: class, score, and left, top, right, bottom.
type Plain = (usize, f64, [f64; 4]);

fn area(b: [f64; 4]) -> f64 {
    (b[2] - b[0]).max(0.0) * (b[3] - b[1]).max(0.0)
}

fn overlap(a: [f64; 4], b: [f64; 4]) -> f64 {
    let common = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let together = area(a) + area(b) - common;
    if together > 0.0 { common / together } else { 0.0 }
}

/// Chooses among boxes in the order of class, level and anchor.
fn chosen(
    mut boxes: Vec<Plain>,
    candidates: usize,
    most: usize,
    hidden: f64,
    soft: Option<f64>,
    threshold: f64,
) -> Vec<Plain> {
    boxes.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    boxes.truncate(candidates);
    let mut found: Vec<Plain> = vec![];
    while !boxes.is_empty() && found.len() < most {
        let best = boxes.remove(0);
        found.push(best);
        for other in boxes.iter_mut().filter(|other| other.0 == best.0) {
            let common = overlap(best.2, other.2);
            match soft {
                Some(width) => other.1 *= (-common * common / width).exp(),
                None if common > hidden => other.1 = -1.0,
                None => {}
            }
        }
        boxes.retain(|other| other.1 >= threshold);
        boxes.sort_by(|a, b| b.1.total_cmp(&a.1));
    }
    found
}

fn within(edges: [f64; 4]) -> [f64; 4] {
    let [height, width] = IMAGE.map(|side| side as f64);
    [
        edges[0].clamp(0.0, width),
        edges[1].clamp(0.0, height),
        edges[2].clamp(0.0, width),
        edges[3].clamp(0.0, height),
    ]
}

/// What [`Anchors`] documents, in f64 and without a thought for time.
fn searched(decoder: &Anchors, outputs: &[Vec<f32>], scores: usize) -> Vec<Plain> {
    let mut boxes = vec![];
    for (level, (own, [score, place])) in decoder.levels.iter().zip([[2, 1], [0, 3]]).enumerate() {
        let sizes = own.shapes.sizes();
        for (anchor, logits) in outputs[score].chunks(scores).enumerate() {
            let (at, size) = (anchor / sizes.len(), sizes[anchor % sizes.len()].map(f64::from));
            let (row, column) = (at / MAP[1], at % MAP[1]);
            let stride = own
                .stride
                .map_or([IMAGE[0] as f64 / MAP[0] as f64, IMAGE[1] as f64 / MAP[1] as f64], |stride| {
                    [f64::from(stride); 2]
                });
            let offset = f64::from(own.offset);
            let mut middle = [(column as f64 + offset) * stride[1], (row as f64 + offset) * stride[0]];
            let mut size = match decoder.clip {
                AnchorClip::Sizes => [size[0].min(IMAGE[1] as f64), size[1].min(IMAGE[0] as f64)],
                _ => size,
            };
            if decoder.clip == AnchorClip::Edges {
                let edges = within([
                    middle[0] - size[0] / 2.0,
                    middle[1] - size[1] / 2.0,
                    middle[0] + size[0] / 2.0,
                    middle[1] + size[1] / 2.0,
                ]);
                middle = [edges[0].midpoint(edges[2]), edges[1].midpoint(edges[3])];
                size = [edges[2] - edges[0], edges[3] - edges[1]];
            }
            let d: Vec<f64> = (0..4)
                .map(|axis| f64::from(outputs[place][4 * anchor + axis]) / f64::from(decoder.weights[axis]))
                .collect();
            let sides = [0, 1].map(|axis| size[axis] * d[2 + axis].min(f64::from(decoder.largest)).exp());
            let middle = [0, 1].map(|axis| middle[axis] + d[axis] * size[axis]);
            let edges = within([
                middle[0] - sides[0] / 2.0,
                middle[1] - sides[1] / 2.0,
                middle[0] + sides[0] / 2.0,
                middle[1] + sides[1] / 2.0,
            ]);
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            for (channel, &logit) in logits.iter().enumerate() {
                let (probability, class) = match decoder.background {
                    None => (1.0 / (1.0 + f64::from(-logit).exp()), channel),
                    Some(background) if background == channel => continue,
                    Some(background) => {
                        (f64::from(logit).exp() / sum, channel - usize::from(channel > background))
                    }
                };
                if probability >= f64::from(decoder.threshold) {
                    boxes.push((class, probability, edges));
                }
            }
            assert!(level < 2);
        }
    }
    chosen(
        boxes,
        decoder.candidates,
        decoder.most,
        f64::from(decoder.overlap),
        decoder.soft.map(f64::from),
        f64::from(decoder.threshold),
    )
}

/// Whether the same was found, up to rounding; boxes whose scores differ by rounding only may have
/// changed places, and of those that are as unlikely as the last another one may have been left out.
fn same(found: &[Detection], expected: &[Plain]) {
    assert_eq!(found.len(), expected.len(), "{found:?}\n{expected:?}");
    let last = expected.last().map_or(0.0, |plain| plain.1);
    for (at, found) in found.iter().enumerate().filter(|(_, found)| f64::from(found.score) > last + 1e-5) {
        let edges = [found.bounds.left, found.bounds.top, found.bounds.right, found.bounds.bottom];
        let is_it = |(class, score, bounds): &&Plain| {
            let near = |(a, b): (f32, &f64)| (f64::from(a) - b).abs() < 1e-3;
            *class == found.class
                && (score - f64::from(found.score)).abs() < 1e-5
                && edges.into_iter().zip(bounds).all(near)
        };
        assert!(expected.iter().any(|plain| is_it(&plain)), "{at}: {found:?}\n{expected:?}");
    }
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
}

/// Decodes so many random images; gives how many boxes were found.
fn compared(
    decoder: BoxDecoder,
    maps: &[OutputMap],
    channels: &[usize],
    search: impl Fn(&[Vec<f32>]) -> Vec<Plain>,
) -> usize {
    let mut program = parts(channels);
    let head = BoxHead::new(maps.to_vec(), decoder, &facts(channels), IMAGE).unwrap();
    let (mut memory, mut of_reals): (Detections, Detections) = (head.memory(), head.memory());
    let mut count = 0;
    for seed in 0..30 {
        let image = Random::new(seed).activations(MAP[0] * MAP[1] * channels.iter().sum::<usize>());
        let outputs = program.run(&Sequential, &image).unwrap();
        head.decode(outputs, &mut memory).unwrap();
        let reals: Vec<Vec<f32>> = maps.iter().enumerate().map(|(at, map)| reals(outputs, at, map)).collect();
        let expected = search(&reals);
        same(memory.boxes(), &expected);
        let reals: Vec<&[f32]> = reals.iter().map(Vec::as_slice).collect();
        head.decode_reals(&reals, &mut of_reals).unwrap();
        same(of_reals.boxes(), &expected);
        count += expected.len();
        let again = allocation_counter::measure(|| head.decode(outputs, &mut memory).unwrap());
        assert_eq!(again.count_total, 0);
        let sure = head.clone().with_threshold(1.0);
        sure.decode(outputs, &mut memory).unwrap();
        assert_eq!(memory.boxes(), []);
        let error = head.decode_reals(&reals[1..], &mut of_reals).unwrap_err().to_string();
        assert!(error.contains("is of another network") || error.contains("there is no output"), "{error}");
    }
    count
}

#[test]
fn anchors_make_the_boxes_of_a_plain_search() {
    for (background, scores, activation) in
        [(None, 3, Activation::Sigmoid), (Some(0), 3, Activation::Softmax), (Some(3), 4, Activation::Softmax)]
    {
        for clip in [AnchorClip::None, AnchorClip::Sizes, AnchorClip::Edges] {
            for soft in [None, Some(0.7)] {
                let decoder = Anchors { clip, soft, ..anchors(background) };
                let head = BoxDecoder::Anchors(decoder.clone());
                let found = compared(head, &maps(activation), &channels(scores), |outputs| {
                    searched(&decoder, outputs, scores)
                });
                assert!(found > 150, "{found}");
            }
        }
    }
}

/// What [`Fcos`] documents, in f64, of three classes.
fn distances(decoder: &Fcos, outputs: &[Vec<f32>]) -> Vec<Plain> {
    let sigmoid = |logit: f32| 1.0 / (1.0 + f64::from(-logit).exp());
    let cell = [IMAGE[0] as f64 / MAP[0] as f64, IMAGE[1] as f64 / MAP[1] as f64];
    let unit = if decoder.unit == LengthUnit::Cells { cell } else { [1.0; 2] };
    let unit = unit.map(|pixels| pixels * f64::from(decoder.times));
    let channels = outputs[1].len() / (MAP[0] * MAP[1]);
    let mut boxes = vec![];
    for at in 0..MAP[0] * MAP[1] {
        let middle = [
            (at % MAP[1]) as f64 * cell[1] + f64::from(decoder.offset) * cell[1],
            (at / MAP[1]) as f64 * cell[0] + f64::from(decoder.offset) * cell[0],
        ];
        for class in 0..3 {
            let far = |edge: usize| {
                let value = f64::from(outputs[1][channels * at + channels / 12 * 4 * class + edge]);
                if decoder.exponential { value.exp() } else { value.max(0.0) }
            };
            let edges = within([
                middle[0] - far(0) * unit[1],
                middle[1] - far(1) * unit[0],
                middle[0] + far(2) * unit[1],
                middle[1] + far(3) * unit[0],
            ]);
            let closeness = if decoder.centreness.is_some() { sigmoid(outputs[2][at]) } else { 1.0 };
            let product = sigmoid(outputs[0][3 * at + class]) * closeness;
            let score = if decoder.root { product.sqrt() } else { product };
            if score >= f64::from(decoder.threshold) {
                boxes.push((class, score, edges));
            }
        }
    }
    let Fcos { candidates, most, overlap, threshold, .. } = *decoder;
    chosen(boxes, candidates, most, f64::from(overlap), None, f64::from(threshold))
}

#[test]
fn distances_make_the_boxes_of_a_plain_search() {
    let maps = [
        map("cls".into(), 0.04, -9, Some(Activation::Sigmoid)),
        map("ltrb".into(), 0.015, -30, None),
        map("ctr".into(), 0.05, -40, Some(Activation::Sigmoid)),
    ];
    let plain = Fcos {
        scores: "cls".into(),
        boxes: "ltrb".into(),
        centreness: Some("ctr".into()),
        threshold: 0.6,
        candidates: 40,
        most: 15,
        ..Fcos::default()
    };
    let table = [
        plain.clone(),
        Fcos { root: false, exponential: true, unit: LengthUnit::Pixels, offset: 0.5, ..plain.clone() },
    ];
    for decoder in table {
        let head = BoxDecoder::Fcos(decoder.clone());
        let found = compared(head, &maps, &[3, 4, 1], |outputs| distances(&decoder, outputs));
        assert!(found > 100, "{found}");
    }
    let decoder = Fcos { centreness: None, ..plain };
    let head = BoxDecoder::Fcos(decoder.clone());
    assert!(compared(head, &maps[..2], &[3, 4], |outputs| distances(&decoder, outputs)) > 100);
    // As DetectNet_v2, whose classes have boxes of their own.
    let decoder = Fcos { root: false, unit: LengthUnit::Pixels, times: 7.5, offset: 0.03125, ..decoder };
    let head = BoxDecoder::Fcos(decoder.clone());
    assert!(compared(head, &maps[..2], &[3, 12], |outputs| distances(&decoder, outputs)) > 100);
}

#[test]
fn levels_that_do_not_fit_are_refused() {
    let refusal = |decoder: Anchors, maps: Vec<OutputMap>, channels: &[usize]| {
        BoxHead::new(maps, BoxDecoder::Anchors(decoder), &facts(channels), IMAGE).unwrap_err().to_string()
    };
    let softmax = || maps(Activation::Softmax);
    let (plain, fits) = (anchors(Some(0)), channels(3));
    let one = Anchors { levels: plain.levels[..1].to_vec(), ..plain.clone() };
    let table = [
        (
            refusal(Anchors { boxes: "loc".into(), ..plain.clone() }, softmax(), &fits),
            "there is no output `loc`; there are `score[1]`, `box[0]`, `score[0]`, `box[1]`; say by `--decoder` what each is for",
        ),
        (refusal(one, softmax(), &fits), "`box` stands for 2 maps, expected 1: one for each level"),
        (
            refusal(plain.clone(), softmax(), &[6, 16, 9, 8]),
            "the output `box[0]` has 16 channels, expected 12: 4 for each of 3 anchors",
        ),
        (
            refusal(plain.clone(), softmax(), &[8, 12, 9, 8]),
            "the output `score[1]` has 8 channels, expected 6: 3 for each of 2 anchors",
        ),
        (
            refusal(plain.clone(), softmax(), &[6, 12, 2, 8]),
            "the output `score[0]` has 2 channels, expected 3 or more: one for each class of each anchor",
        ),
        (
            refusal(plain.clone(), maps(Activation::Sigmoid), &fits),
            "the output `score[0]` ends in sigmoid, which its use in the decoder does not take",
        ),
        (
            refusal(anchors(Some(3)), softmax(), &fits),
            "the decoder's `background` is class 3 of 3; there must be it and another one",
        ),
        (
            refusal(Anchors { candidates: 0, ..plain.clone() }, softmax(), &fits),
            "the decoder's `candidates` is 0; 1 to 10000 boxes are possible",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
    // Levels by names of their own are in the order of the names.
    let names = OutputNames(vec!["box[0]".into(), "box[1]".into()]);
    let named = Anchors { boxes: names, ..plain };
    let head = BoxHead::new(softmax(), BoxDecoder::Anchors(named), &facts(&fits), IMAGE).unwrap();
    assert_eq!(head.classes(), 2);
    let maps = vec![
        map("cls".into(), 1.0, 0, None),
        map("ltrb".into(), 1.0, 0, None),
        map("ctr".into(), 1.0, 0, None),
    ];
    let fcos = Fcos {
        scores: "cls".into(),
        boxes: "ltrb".into(),
        centreness: Some("ctr".into()),
        ..Fcos::default()
    };
    let refusal = |fcos: &Fcos, channels: &[usize]| {
        BoxHead::new(maps.clone(), BoxDecoder::Fcos(fcos.clone()), &facts(channels), IMAGE)
            .unwrap_err()
            .to_string()
    };
    let table = [
        (
            refusal(&fcos, &[3, 4, 2]),
            "the output `ctr` has 2 channels, expected 1: the closeness to the middle",
        ),
        (
            refusal(&fcos, &[3, 8, 1]),
            "the output `ltrb` has 8 channels, expected 4: the distances to the left, upper, right and lower edge; or 4 for each class",
        ),
        (
            refusal(&Fcos { times: 0.0, ..fcos.clone() }, &[3, 4, 1]),
            "the decoder's `times` is 0; a number above 0 is needed",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}

/// The image of 9x7x3 through a normalisation, the same by plan, by program and through a model file.
fn normalised(layer: Normalise) -> Vec<i8> {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
    let output = model.wire_node("normalise", layer, &[image]).unwrap();
    model.select_output_outlets(&output).unwrap();
    let layers = Layers::default();
    let outputs = both_ways(&model, &layers);
    let tar = layers.framework().write_to_tar_with_config(&model, vec![], false, true).unwrap();
    let loaded = layers.framework().model_for_read(&mut &tar[..]).unwrap();
    assert_eq!(crate::common::by_program(&loaded, &layers, Target::reference()), outputs);
    outputs[0].iter().map(|byte| byte.cast_signed()).collect()
}

#[test]
fn positions_are_normalised_as_documented() {
    let (factors, output) = ([20.0, 7.5, -3.0], Quantisation { scale: 0.16, zero_point: -11 });
    for zero_point in [-128, 0, 5] {
        let layer = Normalise::new(zero_point, &factors, output).unwrap();
        let multiplier = layer.multiplier.try_as_plain_ram().unwrap().as_slice::<i32>().unwrap().to_vec();
        let shift = layer.shift + 31;
        let found = normalised(layer);
        for (at, (pixel, found)) in input().chunks(3).zip(found.chunks(3)).enumerate() {
            let d: Vec<i128> = pixel.iter().map(|&q| i128::from(q) - i128::from(zero_point)).collect();
            let sum: i128 = d.iter().map(|d| d * d).sum();
            let root = if sum == 0 { 0 } else { ((1i128 << 62) / sum).isqrt() };
            for channel in 0..3 {
                let exact =
                    (d[channel] * i128::from(multiplier[channel]) * root + (1 << (shift - 1))) >> shift;
                let expected = (exact - 11).clamp(-128, 127);
                assert_eq!(i128::from(found[channel]), expected, "{at} {channel}");
                let real = d[channel] as f64 * f64::from(factors[channel]) / (sum.max(1) as f64).sqrt();
                let steps = (real / 0.16 - 11.0).clamp(-128.0, 127.0);
                assert!((f64::from(found[channel]) - steps).abs() < 0.51, "{at} {channel} {steps}");
            }
        }
    }
}

#[test]
fn the_extremes_of_a_normalisation_fit_its_arithmetic() {
    // One channel has the largest root and the largest multiplier, whichever the sign.
    let output = Quantisation { scale: 1.0, zero_point: 0 };
    let one = Normalise { input_zero_point: -128, multiplier: tensor(&[1], &[1i32 << 22]), shift: 0, output };
    for (values, layer, expected) in [
        (vec![-127i8, 127, -128], one.clone(), vec![127i8, 127, 0]),
        (
            vec![-127, 127, -128],
            Normalise { multiplier: tensor(&[1], &[-(1i32 << 22)]), ..one.clone() },
            vec![-128, -128, 0],
        ),
        (vec![-127, 127, -128], Normalise { shift: 31, ..one }, vec![0, 0, 0]),
    ] {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 3, 1, 1])).unwrap();
        let output = model.wire_node("normalise", layer, &[image]).unwrap();
        model.select_output_outlets(&output).unwrap();
        let mut program = Program::compile(&model, &Layers::default(), &Target::reference()).unwrap();
        let outputs = program.run(&Sequential, &values).unwrap();
        assert_eq!(outputs.get(0).unwrap().slice::<i8>().unwrap(), expected);
    }
}

#[test]
fn a_normalisation_that_does_not_fit_is_refused() {
    let refusal = |layer: Normalise| {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, 9, 7, 3])).unwrap();
        format!("{:#}", model.wire_node("normalise", layer, &[image]).unwrap_err())
    };
    let output = Quantisation { scale: 0.1, zero_point: 0 };
    let fits = Normalise::new(0, &[1.0; 3], output).unwrap();
    let table = [
        (
            refusal(Normalise::new(0, &[1.0; 4], output).unwrap()),
            "a normalisation of 4 channels, 65536 at most, takes no [9, 7, 3]",
        ),
        (
            refusal(Normalise { shift: 32, ..fits.clone() }),
            "a normalisation with zero points 0 and 0 and shift 32 does not fit its arithmetic",
        ),
        (
            refusal(Normalise { multiplier: tensor(&[3], &[0i32, 1 << 23, 0]), ..fits.clone() }),
            "does not fit its arithmetic",
        ),
        (refusal(Normalise { input_zero_point: 128, ..fits }), "a normalisation with zero points 128 and 0"),
    ];
    for (found, expected) in table {
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }
    for factors in [[f32::NAN; 3], [0.0; 3], [1e30; 3]] {
        let error = Normalise::new(0, &factors, output).unwrap_err().to_string();
        assert!(error.starts_with("no multiplier holds factors up to "), "{error}");
    }
}
