//! Networks in TFLite's format, against a plain reading of its arithmetic, and what is refused, and how. The
//! files are written here, table by table.

use std::fs;
use std::path::{Path, PathBuf};

use resight::convert::convert;
use resight::graph::Operator;
use resight::import::{Wanted, import_quantised};
use resight::preprocess::Convention;
use resight::reference::Reference;
use resight_fixtures::Random;
use resight_imaging::Preprocessing;
use resight_kernels::Sequential;
use resight_runtime::{Layers, Program, Target};

/// Side of the image.
const SIDE: usize = 6;
/// What steps are multiples of, with odd ratios, so that nothing lies half way between two integers.
const UNIT: f32 = 1.0 / 4096.0;

/// A field of a table.
#[derive(Debug, Clone)]
enum Field {
    Nothing,
    Number(Vec<u8>),
    Table(Vec<Field>),
    /// Elements and their bytes.
    List(usize, Vec<u8>),
    Tables(Vec<Vec<Field>>),
}

fn int(value: i32) -> Field {
    Field::Number(value.to_le_bytes().to_vec())
}

fn byte(value: i8) -> Field {
    Field::Number(value.to_le_bytes().to_vec())
}

fn ints(values: &[i32]) -> Field {
    Field::List(values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn floats(values: &[f32]) -> Field {
    Field::List(values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn longs(values: &[i64]) -> Field {
    Field::List(values.len(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn text(value: &str) -> Field {
    Field::List(value.len(), value.as_bytes().to_vec())
}

/// Writes a table behind the bytes and gives where it is.
fn table(bytes: &mut Vec<u8>, fields: &[Field]) -> usize {
    let list = bytes.len();
    let mut places = vec![];
    let mut inline: Vec<u8> = vec![0; 4];
    for field in fields {
        places.push(if matches!(field, Field::Nothing) { 0 } else { inline.len() });
        match field {
            Field::Nothing => {}
            Field::Number(number) => inline.extend(number),
            _ => inline.extend([0; 4]),
        }
    }
    bytes.extend(((4 + 2 * fields.len()) as u16).to_le_bytes());
    bytes.extend((inline.len() as u16).to_le_bytes());
    for &place in &places {
        bytes.extend((place as u16).to_le_bytes());
    }
    let at = bytes.len();
    inline[..4].copy_from_slice(&((at - list) as i32).to_le_bytes());
    bytes.extend(inline);
    for (field, place) in fields.iter().zip(places) {
        let target = match field {
            Field::Nothing | Field::Number(_) => continue,
            Field::Table(fields) => table(bytes, fields),
            Field::List(count, elements) => {
                let target = bytes.len();
                bytes.extend((*count as u32).to_le_bytes());
                bytes.extend(elements);
                target
            }
            Field::Tables(tables) => {
                let target = bytes.len();
                bytes.extend((tables.len() as u32).to_le_bytes());
                let first = bytes.len();
                bytes.extend(vec![0; 4 * tables.len()]);
                for (index, fields) in tables.iter().enumerate() {
                    let (place, target) = (first + 4 * index, table(bytes, fields));
                    bytes[place..place + 4].copy_from_slice(&((target - place) as u32).to_le_bytes());
                }
                target
            }
        };
        let place = at + place;
        bytes[place..place + 4].copy_from_slice(&((target - place) as u32).to_le_bytes());
    }
    at
}

const INT8: i8 = 9;
const INT32: i8 = 2;

/// A file while it is written.
#[derive(Debug, Clone, Default)]
struct File {
    tensors: Vec<Vec<Field>>,
    buffers: Vec<Vec<Field>>,
    codes: Vec<Vec<Field>>,
    operators: Vec<Vec<Field>>,
}

impl File {
    fn new() -> Self {
        Self { buffers: vec![vec![]], ..Self::default() }
    }

    /// A tensor and its number; steps are scales and zero points along an axis.
    fn tensor(
        &mut self,
        name: &str,
        dims: &[usize],
        kind: i8,
        steps: (&[f32], &[i64], i32),
        data: Option<Vec<u8>>,
    ) -> i32 {
        let buffer = data.map_or(0, |data| {
            self.buffers.push(vec![Field::List(data.len(), data)]);
            self.buffers.len() - 1
        });
        let dims: Vec<i32> = dims.iter().map(|&size| size as i32).collect();
        let (scales, zeros, axis) = steps;
        let mut quantisation = vec![Field::Nothing, Field::Nothing, floats(scales), longs(zeros)];
        quantisation.extend([Field::Nothing, Field::Nothing, int(axis)]);
        self.tensors.push(vec![
            ints(&dims),
            byte(kind),
            int(buffer as i32),
            text(name),
            Field::Table(quantisation),
        ]);
        self.tensors.len() as i32 - 1
    }

    fn activation(&mut self, name: &str, dims: &[usize], (scale, zero): (f32, i64)) -> i32 {
        self.tensor(name, dims, INT8, (&[scale], &[zero], 0), None)
    }

    fn weights(&mut self, name: &str, dims: &[usize], values: &[i8], scales: &[f32], axis: i32) -> i32 {
        let data = values.iter().map(|value| value.cast_unsigned()).collect();
        self.tensor(name, dims, INT8, (scales, &vec![0; scales.len()], axis), Some(data))
    }

    fn integers(&mut self, name: &str, values: &[i32], scales: &[f32]) -> i32 {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, &[values.len()], INT32, (scales, &vec![0; scales.len()], 0), Some(data))
    }

    fn operator(&mut self, code: i32, inputs: &[i32], output: i32, options: Vec<Field>) {
        self.codes.push(vec![byte(code as i8), Field::Nothing, Field::Nothing, int(code)]);
        let index = self.codes.len() as i32 - 1;
        let options = [byte(1), Field::Table(options)];
        self.operators.push([vec![int(index), ints(inputs), ints(&[output])], options.to_vec()].concat());
    }

    fn bytes(&self, input: i32, output: i32) -> Vec<u8> {
        let graph = vec![
            Field::Tables(self.tensors.clone()),
            ints(&[input]),
            ints(&[output]),
            Field::Tables(self.operators.clone()),
            text("main"),
        ];
        let mut bytes = b"\0\0\0\0TFL3".to_vec();
        let fields = [
            int(3),
            Field::Tables(self.codes.clone()),
            Field::Tables(vec![graph]),
            Field::Nothing,
            Field::Tables(self.buffers.clone()),
        ];
        let root = table(&mut bytes, &fields);
        bytes[..4].copy_from_slice(&(root as u32).to_le_bytes());
        bytes
    }
}

/// Real numbers in rows, columns and channels.
#[derive(Debug, Clone)]
struct Image {
    shape: [usize; 3],
    values: Vec<f64>,
}

/// `scale * clamp(round(x / scale) + zero_point)` less the zero point.
fn rounded(image: &Image, (scale, zero): (f32, i64)) -> Image {
    let scale = f64::from(scale);
    let round = |value: f64| ((value / scale).round() + zero as f64).clamp(-128.0, 127.0) - zero as f64;
    Image { shape: image.shape, values: image.values.iter().map(|&value| round(value) * scale).collect() }
}

/// A convolution with SAME padding and weights `[output][row][column][input]`, or, depthwise, `[row][column]
/// [channel]`.
fn convolved(
    x: &Image,
    outputs: usize,
    side: usize,
    stride: usize,
    weight: &dyn Fn(usize, usize, usize) -> f64,
) -> Image {
    let [height, width, channels] = x.shape;
    let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
    let before = |size: usize, steps: usize| ((steps - 1) * stride + side).saturating_sub(size) / 2;
    let (top, left) = (before(height, rows), before(width, columns));
    let mut values = vec![];
    for at in 0..rows * columns * outputs {
        let (row, column, output) = (at / outputs / columns, at / outputs % columns, at % outputs);
        let mut sum = 0.0;
        for tap in 0..side * side {
            let (y, z) = (row * stride + tap / side, column * stride + tap % side);
            if y < top || z < left || y - top >= height || z - left >= width {
                continue;
            }
            for channel in 0..channels {
                sum += weight(output, tap, channel)
                    * x.values[((y - top) * width + z - left) * channels + channel];
            }
        }
        values.push(sum);
    }
    Image { shape: [rows, columns, outputs], values }
}

const IMAGE: (f32, i64) = (128.0 * UNIT, -8);
const FIRST: (f32, i64) = (99.0 * UNIT, -128);
const DEPTH: (f32, i64) = (401.0 * UNIT, 3);
const SUM: (f32, i64) = (909.0 * UNIT, -128);
const LOGITS: (f32, i64) = (2001.0 * UNIT, 5);

fn numbers(random: &mut Random, count: usize, most: f32) -> Vec<i8> {
    random.reals(count).iter().map(|value| (value * most) as i8).collect()
}

/// What a network makes of an image by the definition.
type Defined = Box<dyn Fn(&Image) -> Vec<f64>>;

/// A file of a convolution, a depthwise one, a sum, and, over the average or all positions, a fully connected
/// layer, its input and its output, and what it makes of an image.
fn network(flat: bool) -> (File, i32, i32, Defined) {
    network_of(flat, IMAGE)
}

/// The same with an image of these steps.
fn network_of(flat: bool, steps: (f32, i64)) -> (File, i32, i32, Defined) {
    let of_image = steps;
    let mut random = Random::new(5);
    let mut file = File::new();
    let image = file.activation("image", &[1, SIDE, SIDE, 3], of_image);
    let first = file.activation("first", &[1, 3, 3, 4], FIRST);
    let depth = file.activation("depth", &[1, 3, 3, 4], DEPTH);
    let sum = file.activation("sum", &[1, 3, 3, 4], SUM);
    let features = if flat { 36 } else { 4 };
    let vector = file.activation("vector", &[1, features], SUM);
    let logits = file.activation("logits", &[1, 5], LOGITS);
    let (w1, w2, w3) = (
        numbers(&mut random, 4 * 27, 127.0),
        numbers(&mut random, 36, 127.0),
        numbers(&mut random, 5 * features, 127.0),
    );
    let s1 = [1.0 / 128.0, 1.0 / 64.0, 1.0 / 128.0, 1.0 / 256.0];
    let s2 = [1.0 / 64.0, 1.0 / 32.0, 1.0 / 64.0, 1.0 / 64.0];
    let s3 = [1.0 / 64.0];
    let b1 = [100, -200, 300, -400];
    let steps = s1.map(|scale| scale * of_image.0);
    let (first_w, first_b) =
        (file.weights("w1", &[4, 3, 3, 3], &w1, &s1, 0), file.integers("b1", &b1, &steps));
    let depth_w = file.weights("w2", &[1, 3, 3, 4], &w2, &s2, 3);
    let last_w = file.weights("w3", &[5, features], &w3, &s3, 0);
    // SAME, strides, RELU.
    file.operator(3, &[image, first_w, first_b], first, vec![byte(0), int(2), int(2), byte(1)]);
    // SAME, strides, multiplier, no function.
    file.operator(4, &[first, depth_w, -1], depth, vec![byte(0), int(1), int(1), int(1), byte(0)]);
    file.operator(0, &[depth, first], sum, vec![byte(1)]);
    if flat {
        file.operator(22, &[sum], vector, vec![]);
    } else {
        let axes = file.integers("axes", &[1, 2], &[]);
        file.operator(40, &[sum, axes], vector, vec![byte(0)]);
    }
    file.operator(9, &[vector, last_w], logits, vec![byte(0)]);
    let defined = move |x: &Image| {
        let weight = |o: usize, tap: usize, c: usize| f64::from(w1[(o * 9 + tap) * 3 + c]) * f64::from(s1[o]);
        let mut one = convolved(x, 4, 3, 2, &weight);
        for (at, value) in one.values.iter_mut().enumerate() {
            *value = (*value + f64::from(b1[at % 4]) * f64::from(steps[at % 4])).max(0.0);
        }
        let one = rounded(&one, FIRST);
        let weight = |o: usize, tap: usize, c: usize| {
            if o == c { f64::from(w2[tap * 4 + c]) * f64::from(s2[c]) } else { 0.0 }
        };
        let two = rounded(&convolved(&one, 4, 3, 1, &weight), DEPTH);
        let both = two.values.iter().zip(&one.values).map(|(a, b)| (a + b).max(0.0)).collect();
        let mut taken = rounded(&Image { values: both, ..two }, SUM).values;
        if !flat {
            taken = (0..4).map(|c| taken.iter().skip(c).step_by(4).sum::<f64>() / 9.0).collect();
            taken = rounded(&Image { shape: [1, 1, 4], values: taken }, SUM).values;
        }
        let row = |o: usize| {
            taken.iter().enumerate().map(|(i, v)| v * f64::from(w3[o * features + i]) / 64.0).sum()
        };
        rounded(&Image { shape: [1, 1, 5], values: (0..5).map(row).collect() }, LOGITS).values
    };
    (file, image, logits, Box::new(defined))
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.tflite");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn refusal(bytes: &[u8]) -> String {
    let (_folder, path) = written(bytes);
    let error = import_quantised(&path, &Wanted::default()).map(|_| ()).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error.replace(&path.parent().unwrap().display().to_string(), "folder")
}

#[test]
fn a_file_gives_the_numbers_that_its_format_defines() {
    for flat in [false, true] {
        let (file, input, output, defined) = network(flat);
        let (_folder, path) = written(&file.bytes(input, output));
        let (imported, quantisation) = import_quantised(&path, &Wanted::default()).unwrap();
        let preprocessing = Preprocessing::for_input(SIDE as u32, SIDE as u32);
        let converted = convert(&imported, &quantisation, &preprocessing).unwrap();
        assert_eq!(converted.report.int8_mac_coverage_percent, 100.0);
        let target = Target::of_this_machine().unwrap();
        let mut program = Program::compile(&converted.model, &Layers::default(), &target).unwrap();
        let mut different = std::collections::HashSet::new();
        for seed in 1..=20 {
            let levels = numbers(&mut Random::new(seed), SIDE * SIDE * 3, 127.9);
            let real = levels.iter().enumerate().map(|(at, &level)| {
                let (mean, deviation) =
                    (preprocessing.mean[at % 3], preprocessing.standard_deviation[at % 3]);
                (f64::from(i32::from(level) + 128) / 255.0 - f64::from(mean)) / f64::from(deviation)
            });
            let image = rounded(&Image { shape: [SIDE, SIDE, 3], values: real.collect() }, IMAGE);
            let expected: Vec<f32> = defined(&image).into_iter().map(|logit| logit as f32).collect();
            let outputs = program.run(&Sequential, &levels).unwrap();
            let found = outputs.get(0).unwrap().slice::<f32>().unwrap();
            assert_eq!(found, expected, "flat: {flat}, picture {seed}");
            different.extend(found.iter().map(|logit| logit.to_bits()));
        }
        assert!(different.len() > 30, "{} logits of 100 differ", different.len());
    }
}

#[test]
fn zeros_before_a_maximum_are_taken_where_nothing_is_below_zero() {
    // As Keras's ResNet: a border of zeros, then a pool without one.
    let padded = |function: i8, zero: i64| {
        let mut random = Random::new(6);
        let mut file = File::new();
        let steps = (99.0 * UNIT, zero);
        let image = file.activation("image", &[1, SIDE, SIDE, 3], IMAGE);
        let first = file.activation("first", &[1, 3, 3, 4], steps);
        let border = file.activation("border", &[1, 5, 5, 4], steps);
        let pooled = file.activation("pooled", &[1, 2, 2, 4], steps);
        let vector = file.activation("vector", &[1, 16], steps);
        let logits = file.activation("logits", &[1, 5], LOGITS);
        let w1 = numbers(&mut random, 4 * 27, 127.0);
        let w2 = numbers(&mut random, 5 * 16, 127.0);
        let w1 = file.weights("w1", &[4, 3, 3, 3], &w1, &[1.0 / 128.0; 4], 0);
        let w2 = file.weights("w2", &[5, 16], &w2, &[1.0 / 64.0], 0);
        let sides = file.integers("sides", &[0, 0, 1, 1, 1, 1, 0, 0], &[]);
        file.operator(3, &[image, w1, -1], first, vec![byte(0), int(2), int(2), byte(function)]);
        file.operator(34, &[first, sides], border, vec![]);
        file.operator(17, &[border], pooled, vec![byte(1), int(2), int(2), int(3), int(3), byte(0)]);
        file.operator(22, &[pooled], vector, vec![]);
        file.operator(9, &[vector, w2], logits, vec![byte(0)]);
        file.bytes(image, logits)
    };
    // Said by the function, or by numbers of which the least is zero.
    for (function, zero) in [(1, -128), (1, -100), (0, -128)] {
        let (_folder, path) = written(&padded(function, zero));
        let (imported, _) = import_quantised(&path, &Wanted::default()).unwrap();
        let pool = imported.graph.nodes.iter().find_map(|node| match node.operator {
            Operator::MaxPool { padding, .. } => Some(padding),
            _ => None,
        });
        assert_eq!(pool, Some([1; 4]), "function {function}, zero {zero}");
    }
    let said = refusal(&padded(0, -100));
    assert!(said.ends_with(
        "it follows a Pad with zeros, which are more than negative values; pad within the MaxPool"
    ));
}

#[test]
fn integers_of_a_usual_range_are_the_bytes_of_a_picture() {
    // From -0.99 to 1: as many steps as grey levels, so that rounding a picture's numbers would only find halves.
    let steps = (32.0 * UNIT, -1);
    let (file, input, output, defined) = network_of(false, steps);
    let (_folder, path) = written(&file.bytes(input, output));
    let (imported, quantisation) = import_quantised(&path, &Wanted::default()).unwrap();
    assert!(imported.preparation.grey_levels);
    let preprocessing = Convention::grey_levels().preprocessing(&imported).unwrap();
    let converted = convert(&imported, &quantisation, &preprocessing).unwrap();
    let target = Target::of_this_machine().unwrap();
    let mut program = Program::compile(&converted.model, &Layers::default(), &target).unwrap();
    for seed in 1..=20 {
        let levels = numbers(&mut Random::new(seed), SIDE * SIDE * 3, 127.9);
        let real = levels.iter().map(|&level| f64::from(steps.0) * f64::from(i32::from(level) + 1));
        let image = Image { shape: [SIDE, SIDE, 3], values: real.collect() };
        let expected: Vec<f32> = defined(&image).into_iter().map(|logit| logit as f32).collect();
        let outputs = program.run(&Sequential, &levels).unwrap();
        assert_eq!(outputs.get(0).unwrap().slice::<f32>().unwrap(), expected, "picture {seed}");
    }
    // Any other range is what the network is given, as real numbers.
    let (file, input, output, _) = network(false);
    let (_folder, path) = written(&file.bytes(input, output));
    assert!(!import_quantised(&path, &Wanted::default()).unwrap().0.preparation.grey_levels);
}

#[test]
fn hard_swish_gives_litert_s_integers() {
    const FROM: (f32, i64) = (99.0 * UNIT, -20);
    const TO: (f32, i64) = (61.0 * UNIT, -103);
    let mut random = Random::new(7);
    let mut file = File::new();
    let image = file.activation("image", &[1, SIDE, SIDE, 3], IMAGE);
    let first = file.activation("first", &[1, 3, 3, 4], FROM);
    let swish = file.activation("swish", &[1, 3, 3, 4], TO);
    let vector = file.activation("vector", &[1, 36], TO);
    let logits = file.activation("logits", &[1, 5], LOGITS);
    let (w1, w2) = (numbers(&mut random, 4 * 27, 127.0), numbers(&mut random, 5 * 36, 127.0));
    let first_w = file.weights("w1", &[4, 3, 3, 3], &w1, &[1.0 / 256.0; 4], 0);
    let last_w = file.weights("w2", &[5, 36], &w2, &[1.0 / 64.0], 0);
    file.operator(3, &[image, first_w, -1], first, vec![byte(0), int(2), int(2), byte(0)]);
    file.operator(117, &[first], swish, vec![]);
    file.operator(22, &[swish], vector, vec![]);
    file.operator(9, &[vector, last_w], logits, vec![byte(0)]);
    let (_folder, path) = written(&file.bytes(image, logits));
    let (imported, quantisation) = import_quantised(&path, &Wanted::default()).unwrap();
    let preprocessing = Preprocessing::for_input(SIDE as u32, SIDE as u32);
    let converted = convert(&imported, &quantisation, &preprocessing).unwrap();
    let reference = Reference::new(&imported, &[]).unwrap();
    let target = Target::of_this_machine().unwrap();
    let mut program = Program::compile(&converted.model, &Layers::default(), &target).unwrap();
    let mut unlike_the_real_function = 0;
    for seed in 1..=80 {
        let levels = numbers(&mut Random::new(seed), SIDE * SIDE * 3, 127.9);
        let real = levels.iter().enumerate().map(|(at, &level)| {
            let (mean, deviation) = (preprocessing.mean[at % 3], preprocessing.standard_deviation[at % 3]);
            (f64::from(i32::from(level) + 128) / 255.0 - f64::from(mean)) / f64::from(deviation)
        });
        let real = Image { shape: [SIDE, SIDE, 3], values: real.collect() };
        let weight = |o: usize, tap: usize, c: usize| f64::from(w1[(o * 9 + tap) * 3 + c]) / 256.0;
        let one = rounded(&convolved(&rounded(&real, IMAGE), 4, 3, 2, &weight), FROM);
        let swish = |&x: &f64| {
            // LiteRT 2.3.0 makes 7 of 62, which would be 8.
            let is_other = (x / f64::from(FROM.0)).round() as i64 + FROM.1 == 62;
            unlike_the_real_function += usize::from(is_other);
            if is_other { 110.0 * f64::from(TO.0) } else { x * (x / 6.0 + 0.5).clamp(0.0, 1.0) }
        };
        let values = one.values.iter().map(swish).collect();
        let two = rounded(&Image { values, ..one }, TO).values;
        let row = |o: usize| two.iter().enumerate().map(|(i, v)| v * f64::from(w2[o * 36 + i]) / 64.0).sum();
        let expected = rounded(&Image { shape: [1, 1, 5], values: (0..5).map(row).collect() }, LOGITS).values;
        let expected: Vec<f32> = expected.into_iter().map(|logit| logit as f32).collect();
        let outputs = program.run(&Sequential, &levels).unwrap();
        assert_eq!(outputs.get(0).unwrap().slice::<f32>().unwrap(), expected, "picture {seed}");
        let input: Vec<f32> =
            (0..3).flat_map(|c| real.values.iter().skip(c).step_by(3)).map(|&x| x as f32).collect();
        assert_eq!(reference.run(&input).unwrap().logits(), expected, "picture {seed} in floats");
    }
    assert!(unlike_the_real_function > 3, "{unlike_the_real_function}");
}

#[test]
fn what_a_file_cannot_have_is_named() {
    let with = |change: &dyn Fn(&mut File)| {
        let (mut file, input, output, _) = network(false);
        change(&mut file);
        refusal(&file.bytes(input, output))
    };
    assert_eq!(
        with(&|file| file.codes[1][3] = int(39)),
        "folder/network.tflite: node `depth` (TRANSPOSE): the operator is not supported: networks are made of convolutions, \
         functions of one value, sums, products, concatenation, pooling and fully connected layers"
    );
    let custom = with(&|file| file.codes[1] = vec![byte(32), text("Detection"), Field::Nothing, int(32)]);
    assert!(custom.contains("node `depth` (custom Detection): the operator is not supported"), "{custom}");
    let scale = |scale: f32| {
        with(&|file| {
            file.tensors[2][4] =
                Field::Table(vec![Field::Nothing, Field::Nothing, floats(&[scale]), longs(&[0])]);
        })
    };
    for (value, shown) in [(0.0, "0"), (-1.0, "-1"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let expected = format!(
            "folder/network.tflite: tensor 2 `depth` has the scale {shown}; a scale must be positive and finite; the file is \
             damaged, convert the network again"
        );
        assert_eq!(scale(value), expected);
    }
    for (place, zero, kind) in [
        (2, 128, "int8"),
        (2, -129, "int8"),
        // The image.
        (0, i64::MIN, "int8"),
        (7, 1, "int32"),
    ] {
        let found = with(&|file| {
            let Field::Table(steps) = &mut file.tensors[place][4] else { unreachable!("it has steps") };
            steps[3] = longs(&[zero]);
        });
        let expected = format!(" has the zero point {zero}, which {kind} cannot have; the file is damaged");
        assert!(found.contains(&expected), "{found}");
    }
    let kind = with(&|file| file.tensors[2][1] = byte(7));
    assert!(
        kind.contains("node `depth` (DEPTHWISE_CONV_2D): `depth` has the type int16; only int8, uint8 and float32 are supported"),
        "{kind}"
    );
    let short = with(&|file| file.buffers[1] = vec![Field::List(2, vec![1, 2])]);
    assert!(
        short.contains("tensor 6 `w1` has 2 bytes where its dimensions [4, 3, 3, 3] need 108"),
        "{short}"
    );
    let buffer = with(&|file| file.tensors[6][2] = int(99));
    assert!(buffer.contains("tensor 6 `w1` is in buffer 99, which there is not"), "{buffer}");
    let later = with(&|file| file.operators[1][1] = ints(&[3, 8, -1]));
    assert!(later.contains("its input 0 is missing or computed by nothing before"), "{later}");
    let code = with(&|file| file.operators[0][0] = int(77));
    assert!(code.contains("operator 0 is of kind 77, which the file does not list"), "{code}");
    let stride = with(&|file| file.operators[0][4] = Field::Table(vec![byte(0), int(0), int(-1), byte(1)]));
    assert!(stride.contains("node `first` (CONV_2D): its stride is -1, which is not supported"), "{stride}");
}

#[test]
fn no_damage_is_more_than_an_error() {
    let (file, input, output, _) = network(true);
    let bytes = file.bytes(input, output);
    let (_folder, path) = written(&bytes);
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let (imported, quantisation) = import_quantised(&path, &Wanted::default())?;
        let preprocessing = Preprocessing::for_input(SIDE as u32, SIDE as u32);
        Ok::<(), Box<dyn std::error::Error>>(convert(&imported, &quantisation, &preprocessing).map(|_| ())?)
    };
    for end in (8..bytes.len()).step_by(37) {
        let error = read(&bytes[..end]).unwrap_err().to_string();
        assert!(error.contains("network.tflite") && error.contains("again"), "{end}: {error}");
    }
    let mut random = Random::new(9);
    for _ in 0..300 {
        let mut changed = bytes.clone();
        for value in random.reals(3) {
            let at = 8 + (value.abs() * (bytes.len() - 9) as f32) as usize;
            changed[at] = changed[at].wrapping_add((value * 1000.0) as i8 as u8 | 1);
        }
        if let Err(error) = read(&changed) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
    // Bytes of anything else.
    let error = read(b"\xff\xff\xff\x7fTFL3").unwrap_err().to_string();
    assert!(error.contains("not a TFLite file, or a damaged one: it ends before byte"), "{error}");
}

#[test]
fn a_tflite_file_is_known_by_its_bytes() {
    let (file, input, output, _) = network(true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.onnx");
    fs::write(&path, file.bytes(input, output)).unwrap();
    let (imported, _) = import_quantised(Path::new(&path), &Wanted::default()).unwrap();
    assert_eq!(imported.graph.nodes.last().unwrap().shape, [5, 1, 1]);
}
