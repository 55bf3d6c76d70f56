//! Points of several things in an image, against a plain search.

use std::collections::BTreeSet;

use resight_fixtures::Random;
use resight_kernels::Sequential;
use resight_model_file::{Activation, FieldOrder, Fields, OutputMap, PointDecoder, Refinement};
use resight_runtime::layers::Channels;
use resight_runtime::{Layers, Point, PointHead, Points, Program, Target, TensorFact};
use tract_nnef::internal::*;

/// Rows and columns.
const SIZE: [usize; 2] = [14, 18];
const POINTS: usize = 3;
const LINKS: [[usize; 2]; 2] = [[0, 1], [1, 2]];
const CHANNELS: usize = POINTS + 2 * LINKS.len();
/// What a step of each output is worth.
const SCALE: f32 = 0.01;
/// Pixels of the image in a cell.
const CELL: f32 = 4.0;

fn program() -> Program {
    let mut model = TypedModel::default();
    let image = model.add_source("image", DatumType::I8.fact([1, SIZE[0], SIZE[1], CHANNELS])).unwrap();
    let mut wire =
        |name: &str, order: Vec<usize>| model.wire_node(name, Channels { order }, &[image]).unwrap()[0];
    let outputs = [wire("heatmaps", (0..POINTS).collect()), wire("fields", (POINTS..CHANNELS).collect())];
    model.select_output_outlets(&outputs).unwrap();
    Program::compile(&model, &Layers::default(), &Target::reference()).unwrap()
}

fn maps() -> Vec<OutputMap> {
    let map = |name: &str| OutputMap { name: name.into(), scale: SCALE, zero_point: 0, activation: None };
    vec![map("heatmaps"), map("fields")]
}

fn fields() -> Fields {
    Fields {
        map: "fields".into(),
        links: LINKS.to_vec(),
        order: FieldOrder::RightFirst,
        threshold: 0.1,
        fewest: 2,
        most: 4,
    }
}

fn decoder(fields: Fields) -> PointDecoder {
    let plain = PointDecoder { refinement: Refinement::None, threshold: 0.2, ..PointDecoder::default() };
    PointDecoder { fields: Some(fields), ..plain }
}

fn facts() -> [TensorFact; 2] {
    [POINTS, 2 * LINKS.len()].map(|channels| TensorFact::activation([SIZE[0], SIZE[1], channels]))
}

fn head(fields: Fields) -> PointHead {
    let image = SIZE.map(|cells| cells * CELL as usize);
    PointHead::new(maps(), decoder(fields), &facts(), image).unwrap()
}

/// What the network is given, drawn by hand.
struct Drawing(Vec<i8>);

impl Drawing {
    fn new() -> Self {
        Self(vec![0; SIZE[0] * SIZE[1] * CHANNELS])
    }

    fn set(&mut self, [row, column]: [usize; 2], channel: usize, value: f32) {
        self.0[(row * SIZE[1] + column) * CHANNELS + channel] = (value / SCALE) as i8;
    }

    fn point(&mut self, class: usize, cell: [usize; 2], score: f32) -> &mut Self {
        self.set(cell, class, score);
        self
    }

    /// A field from one cell to another, also in the cells beside it.
    fn link(&mut self, link: usize, from: [usize; 2], to: [usize; 2], strength: f32) -> &mut Self {
        let way = [0, 1].map(|axis| to[axis] as f32 - from[axis] as f32);
        let length = way[0].hypot(way[1]);
        for sample in 0..=40 {
            let cell =
                [0, 1].map(|axis| (from[axis] as f32 + way[axis] * sample as f32 / 40.0).round() as usize);
            self.set(cell, POINTS + 2 * link, strength * way[1] / length);
            self.set(cell, POINTS + 2 * link + 1, strength * way[0] / length);
        }
        self
    }
}

/// Class, thing and cell of each point.
fn seen(points: &[Point]) -> Vec<(usize, usize, [usize; 2])> {
    let cell = |place: [f32; 2]| place.map(|pixels| (pixels / CELL).round() as usize);
    points.iter().map(|point| (point.class, point.thing, cell(point.place))).collect()
}

fn found(head: &PointHead, drawing: &Drawing) -> Vec<Point> {
    let mut program = program();
    let outputs = program.run(&Sequential, &drawing.0).unwrap();
    let mut points = head.memory();
    head.decode(outputs, &mut points).unwrap();
    let again = allocation_counter::measure(|| head.decode(outputs, &mut points).unwrap());
    assert_eq!(again.count_total, 0);
    let reals: Vec<Vec<f32>> = (0..2)
        .map(|output| {
            let bytes = outputs.get(output).unwrap().slice::<i8>().unwrap();
            bytes.iter().map(|&q| SCALE * f32::from(q)).collect()
        })
        .collect();
    let mut of_reals = Points::default();
    head.decode_reals(&[&reals[0], &reals[1]], &mut of_reals).unwrap();
    assert_eq!(seen(of_reals.points()), seen(points.points()));
    points.points().to_vec()
}

#[test]
fn points_belong_to_the_thing_that_fields_lead_to() {
    // Two things one above the other, whose first points are as near to each other's second ones.
    let mut drawing = Drawing::new();
    drawing.point(0, [2, 2], 0.9).point(1, [2, 9], 0.8).point(2, [2, 15], 0.5);
    drawing.point(0, [8, 2], 0.9).point(1, [8, 9], 0.9).point(2, [11, 15], 0.9);
    drawing.link(0, [2, 2], [8, 9], 0.9).link(0, [8, 2], [2, 9], 0.9);
    drawing.link(1, [8, 9], [11, 15], 0.9).link(1, [2, 9], [2, 15], 0.9);
    // What nothing leads to is no thing.
    drawing.point(1, [12, 3], 1.0);
    let points = found(&head(fields()), &drawing);
    let expected =
        [(0, 0, [2, 2]), (1, 0, [8, 9]), (2, 0, [11, 15]), (0, 1, [8, 2]), (1, 1, [2, 9]), (2, 1, [2, 15])];
    assert_eq!(seen(&points), expected);
    assert!((points[2].score - 0.9).abs() < SCALE && points[2].place == [44.0, 60.0], "{points:?}");
    // The surest alone.
    let one = found(&head(Fields { most: 1, ..fields() }), &drawing);
    assert_eq!(seen(&one).len(), 0, "of each point only one is looked at, and these are of different things");
    let three = found(&head(Fields { fewest: 3, ..fields() }), &drawing);
    assert_eq!(seen(&three), expected);
    // A field the other way round leads nowhere, and one that is too weak.
    let turned = found(&head(Fields { order: FieldOrder::DownFirst, threshold: 0.8, ..fields() }), &drawing);
    assert_eq!(seen(&turned), []);
    let strict = found(&head(Fields { threshold: 0.95, ..fields() }), &drawing);
    assert_eq!(seen(&strict), []);
}

#[test]
fn fields_may_have_the_direction_downwards_first() {
    let mut drawing = Drawing::new();
    drawing.point(0, [2, 4], 0.9).point(1, [10, 4], 0.8);
    for row in 2..=10 {
        drawing.set([row, 4], POINTS, 0.9);
    }
    let down = found(&head(Fields { order: FieldOrder::DownFirst, ..fields() }), &drawing);
    assert_eq!(seen(&down), [(0, 0, [2, 4]), (1, 0, [10, 4])]);
    assert_eq!(seen(&found(&head(fields()), &drawing)), []);
}

/// What [`Fields`] documents, by sets, in f64.
fn searched(fields: &Fields, image: &[i8]) -> BTreeSet<Vec<(usize, [usize; 2])>> {
    let at = |[row, column]: [usize; 2], channel: usize| {
        f64::from(image[(row * SIZE[1] + column) * CHANNELS + channel]) * f64::from(SCALE)
    };
    let cells = || (0..SIZE[0]).flat_map(|row| (0..SIZE[1]).map(move |column| [row, column]));
    let near = |a: [usize; 2], b: [usize; 2]| a[0].abs_diff(b[0]) <= 2 && a[1].abs_diff(b[1]) <= 2;
    let peaks = |class: usize| -> Vec<[usize; 2]> {
        let is_peak = |&cell: &[usize; 2]| {
            let heat = at(cell, class);
            let hides =
                |other: [usize; 2]| at(other, class) > heat || (other < cell && at(other, class) >= heat);
            heat >= 0.2 - 1e-6 && !cells().any(|other| other != cell && near(other, cell) && hides(other))
        };
        let mut peaks: Vec<[usize; 2]> = cells().filter(is_peak).collect();
        peaks.sort_by(|&a, &b| at(b, class).total_cmp(&at(a, class)).then(a.cmp(&b)));
        peaks.truncate(fields.most);
        peaks
    };
    let mut joints = vec![];
    for (link, [from, to]) in LINKS.into_iter().enumerate() {
        for (index, &a) in peaks(from).iter().enumerate() {
            for (other, &b) in peaks(to).iter().enumerate() {
                let way = [0, 1].map(|axis| b[axis] as f64 - a[axis] as f64);
                let length = way[0].hypot(way[1]);
                let part = |sample: usize| {
                    let share = (sample as f64 + 0.5) / 10.0;
                    let cell = [0, 1].map(|axis| (a[axis] as f64 + share * way[axis]).round() as usize);
                    at(cell, POINTS + 2 * link) * way[1] + at(cell, POINTS + 2 * link + 1) * way[0]
                };
                let fit = (0..10).map(part).sum::<f64>() / 10.0 / length;
                if length > 0.0 && fit >= f64::from(fields.threshold) {
                    joints.push((fit, link, (index, other), (from, a), (to, b)));
                }
            }
        }
    }
    joints.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut things: Vec<BTreeSet<(usize, [usize; 2])>> = (0..POINTS)
        .flat_map(|class| peaks(class).into_iter().map(move |cell| BTreeSet::from([(class, cell)])))
        .collect();
    for (_, _, _, a, b) in joints {
        let [one, other] =
            [a, b].map(|point| things.iter().position(|thing| thing.contains(&point)).unwrap());
        if one != other {
            let classes = |thing: &BTreeSet<(usize, [usize; 2])>| thing.iter().map(|point| point.0).collect();
            let (classes_a, classes_b): (BTreeSet<usize>, BTreeSet<usize>) =
                (classes(&things[one]), classes(&things[other]));
            if !classes_a.is_disjoint(&classes_b) {
                continue;
            }
            let taken = std::mem::take(&mut things[other]);
            things[one].extend(taken);
        }
    }
    things.retain(|thing| thing.len() >= fields.fewest);
    things.into_iter().map(|thing| thing.into_iter().collect()).collect()
}

#[test]
fn any_maps_give_the_things_of_a_plain_search() {
    // Enough for all things, so that which of equally sure ones is left out does not matter.
    let fields = Fields { most: 12, ..fields() };
    let head = head(fields.clone());
    let mut things = 0;
    for seed in 0..60 {
        let random = &mut Random::new(seed);
        let mut drawing = Drawing(random.activations(SIZE[0] * SIZE[1] * CHANNELS));
        for (index, value) in drawing.0.iter_mut().enumerate() {
            // Few peaks, and fields that mostly lead somewhere.
            if index % CHANNELS < POINTS {
                *value = if *value > 100 { *value } else { 0 };
            } else {
                *value = value.saturating_abs();
            }
        }
        let points = found(&head, &drawing);
        let count = points.iter().map(|point| point.thing + 1).max().unwrap_or(0);
        let of = |thing: usize| {
            let own = points.iter().filter(|point| point.thing == thing).copied().collect::<Vec<_>>();
            seen(&own).into_iter().map(|(class, _, cell)| (class, cell)).collect::<Vec<_>>()
        };
        assert_eq!((0..count).map(of).collect::<BTreeSet<_>>(), searched(&fields, &drawing.0), "{seed}");
        let sure = |thing: usize| -> f32 {
            points.iter().filter(|point| point.thing == thing).map(|point| point.score).sum()
        };
        assert!((1..count).all(|thing| sure(thing - 1) >= sure(thing) - 1e-4), "{seed}");
        things += count;
    }
    assert!(things > 100, "{things}");
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    let refusal = |fields: Fields, maps: Vec<OutputMap>, facts: &[TensorFact]| {
        PointHead::new(maps, decoder(fields), facts, SIZE).unwrap_err().to_string()
    };
    let with = |change: &dyn Fn(&mut Fields)| {
        let mut fields = fields();
        change(&mut fields);
        refusal(fields, maps(), &facts())
    };
    let mut soft = maps();
    soft[1].activation = Some(Activation::Sigmoid);
    let [heat_maps, _] = facts();
    let small = [heat_maps, TensorFact::activation([7, 9, 4])];
    let table = [
        (
            with(&|fields| fields.map = "paf".into()),
            "there is no output `paf`; there are `heatmaps`, `fields`; say by `--decoder` what each is for",
        ),
        (
            with(&|fields| fields.links.push([2, 0])),
            "the output `fields` has 4 channels, expected 6: two for each link",
        ),
        (
            with(&|fields| fields.links[1] = [1, 3]),
            "the output `heatmaps` has 3 channels, expected 4 to 64: one for each point of the links",
        ),
        (
            with(&|fields| fields.links[1] = [1, 1]),
            "the decoder has a link from point 1 to point 1; two different ones below 64 are needed",
        ),
        (
            with(&|fields| fields.links[1] = [64, 1]),
            "the decoder has a link from point 64 to point 1; two different ones below 64 are needed",
        ),
        (with(&|fields| fields.links.clear()), "the decoder has 0 links; 1 to 64 are possible"),
        (with(&|fields| fields.most = 51), "the decoder's `fields.most` is 51; 1 to 50 things are possible"),
        (
            with(&|fields| fields.fewest = 0),
            "the decoder's `fields.fewest` is 0; 1 to 64 points are possible",
        ),
        (with(&|fields| fields.fewest = 4), "the decoder's `fields.fewest` is 4; 1 to 3 points are possible"),
        (with(&|fields| fields.threshold = 2.0), "the decoder's `fields.threshold` is 2; 0 to 1 is needed"),
        (
            refusal(fields(), soft, &facts()),
            "the output `fields` ends in sigmoid, which its use in the decoder does not take",
        ),
        (
            refusal(fields(), maps(), &small),
            "the output `fields` is of [7, 9] cells, expected [14, 18] as `heatmaps`",
        ),
    ];
    for (found, expected) in table {
        assert_eq!(found, expected);
    }
}
