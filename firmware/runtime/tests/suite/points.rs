//! Points of heat maps against a plain search.

use resight_fixtures::Random;
use resight_kernels::Sequential;
use resight_model_file::{Activation, OutputMap, PointDecoder, Refinement};
use resight_runtime::layers::Channels;
use resight_runtime::{Layers, Outputs, Point, PointHead, Program, Target, TensorFact};
use tract_nnef::internal::*;

const MAP: [usize; 3] = [6, 5, 3];
const IMAGE: [usize; 2] = [24, 40];

fn program() -> Program {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, MAP[0], MAP[1], MAP[2]])).unwrap();
    let output = model.wire_node("o", Channels { order: vec![2, 0, 1] }, &[image]).unwrap();
    model.select_output_outlets(&output).unwrap();
    Program::compile(&model, &Layers::default(), &Target::reference()).unwrap()
}

fn map(activation: Option<Activation>) -> Vec<OutputMap> {
    vec![OutputMap { name: "heatmaps".into(), scale: 0.01, zero_point: -90, activation }]
}

fn head(decoder: PointDecoder) -> PointHead {
    PointHead::new(map(None), decoder, &[TensorFact::activation(MAP)], IMAGE).unwrap()
}

/// What [`PointDecoder`] documents, in f64.
fn searched(decoder: &PointDecoder, outputs: Outputs<'_>) -> Vec<Point> {
    let bytes = outputs.get(0).unwrap().slice::<i8>().unwrap();
    let at = |row: usize, column: usize, channel: usize| {
        f64::from(bytes[(row * MAP[1] + column) * MAP[2] + channel])
    };
    let point = |channel: usize| {
        let mut best = (0, 0);
        for (row, column) in (0..MAP[0]).flat_map(|row| (0..MAP[1]).map(move |column| (row, column))) {
            if at(row, column, channel) > at(best.0, best.1, channel) {
                best = (row, column);
            }
        }
        let (row, column) = best;
        let most = at(row, column, channel);
        let beside = |low: f64, high: f64| match decoder.refinement {
            Refinement::None => 0.0,
            Refinement::Quarter if high == low => 0.0,
            Refinement::Quarter => 0.25 * (high - low).signum(),
            Refinement::Parabola => (high - low) / (2.0 * (2.0 * most - low - high)).max(1e-9),
        };
        let mut place = [row as f64, column as f64];
        if row > 0 && row + 1 < MAP[0] {
            place[0] += beside(at(row - 1, column, channel), at(row + 1, column, channel));
        }
        if column > 0 && column + 1 < MAP[1] {
            place[1] += beside(at(row, column - 1, channel), at(row, column + 1, channel));
        }
        let place = [0, 1].map(|axis| (place[axis] + f64::from(decoder.offset)) * [4.0, 8.0][axis]);
        Point {
            class: channel,
            thing: 0,
            score: (0.01 * (most + 90.0)) as f32,
            place: place.map(|place| place as f32),
        }
    };
    (0..MAP[2]).map(point).collect()
}

#[test]
fn points_are_those_of_a_plain_search() {
    let mut program = program();
    for (refinement, offset) in
        [(Refinement::None, 0.5), (Refinement::Quarter, 0.0), (Refinement::Parabola, 0.5)]
    {
        let decoder = PointDecoder { refinement, offset, ..PointDecoder::default() };
        let head = head(decoder.clone());
        assert_eq!(head.points(), 3);
        let (mut points, mut of_reals) = (head.memory(), head.memory());
        for seed in 0..40 {
            let image = Random::new(seed).activations(MAP.iter().product());
            // Few different values, so that neighbours are often equal.
            let image: Vec<i8> = image.iter().map(|value| value / 24 * 24).collect();
            let outputs = program.run(&Sequential, &image).unwrap();
            head.decode(outputs, &mut points).unwrap();
            let expected = searched(&decoder, outputs);
            let bytes = outputs.get(0).unwrap().slice::<i8>().unwrap();
            let reals: Vec<f32> = bytes.iter().map(|&q| 0.01 * (i32::from(q) + 90) as f32).collect();
            head.decode_reals(&[&reals], &mut of_reals).unwrap();
            let both = points.points().iter().zip(of_reals.points());
            for ((found, real), expected) in both.zip(&expected) {
                for found in [found, real] {
                    assert_eq!((found.class, found.thing), (expected.class, 0));
                    assert!((found.score - expected.score).abs() < 1e-5, "{found:?} {expected:?}");
                    let near = |axis: usize| (found.place[axis] - expected.place[axis]).abs() < 1e-3;
                    assert!(near(0) && near(1), "{refinement:?} {seed}: {found:?} {expected:?}");
                }
            }
            assert_eq!((points.points().len(), of_reals.points().len()), (3, 3));
            let again = allocation_counter::measure(|| head.decode(outputs, &mut points).unwrap());
            assert_eq!(again.count_total, 0);
        }
    }
}

#[test]
fn maps_that_do_not_fit_are_refused() {
    let refusal = |decoder: PointDecoder, maps: Vec<OutputMap>, shape: [usize; 3]| {
        PointHead::new(maps, decoder, &[TensorFact::activation(shape)], IMAGE).unwrap_err().to_string()
    };
    let plain = PointDecoder::default;
    let table = [
        (
            refusal(PointDecoder { heat_maps: "hm".into(), ..plain() }, map(None), MAP),
            "there is no output `hm`; there are `heatmaps`; say by `--decoder` what each is for",
        ),
        (
            refusal(plain(), map(Some(Activation::Softmax)), MAP),
            "the output `heatmaps` ends in softmax, which its use in the decoder does not take",
        ),
        (
            refusal(PointDecoder { offset: 2.0, ..plain() }, map(None), MAP),
            "the decoder's `offset` is 2; -1 to 1 is needed",
        ),
        (
            refusal(plain(), map(None), [1, 1, 3]),
            "the output `heatmaps` has one place only: it says what a picture shows, not where; leave out `--task`, or \
             export the network without what averages its maps",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}
