//! A plain f32 evaluator of a float graph, and the comparison with tract.

#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod protobuf;

use resight::function::Function;
use resight::graph::{Between, FloatConvolution, FloatGraph, Operator};
use resight::import::Imported;
use resight::reference::Reference;
use resight_fixtures::Random;

/// A function of the mean of another one.
fn generalised_mean(inner: &Function, outer: &Function, plane: &[f32]) -> f32 {
    let sum: f64 = plane.iter().map(|&x| inner.at(f64::from(x), 0)).sum();
    outer.at(sum / plane.len() as f64, 0) as f32
}

/// The value of every node for one `[channels, height, width]` image.
pub fn evaluate(graph: &FloatGraph, image: &[f32]) -> Vec<Vec<f32>> {
    let mut values: Vec<Vec<f32>> = Vec::new();
    for node in &graph.nodes {
        let input =
            |position: usize| (&values[node.inputs[position]], graph.nodes[node.inputs[position]].shape);
        let result = match &node.operator {
            Operator::Input => image.to_vec(),
            Operator::Convolution(c) => {
                let (x, shape) = input(0);
                let residual = c.residual.then(|| input(1).0.as_slice());
                assert_eq!(node.inputs.len(), 1 + usize::from(c.residual), "{}", node.name);
                convolution(c, x, shape, node.shape, residual)
            }
            Operator::MaxPool { kernel, stride, padding } => {
                let (x, shape) = input(0);
                max_pool(x, shape, node.shape, *kernel, *stride, *padding)
            }
            Operator::GlobalAverage => {
                let (x, [_, h, w]) = input(0);
                x.chunks(h * w).map(|plane| plane.iter().sum::<f32>() / (h * w) as f32).collect()
            }
            Operator::AveragePool { kernel, stride, padding, counts_padding } => {
                let (x, shape) = input(0);
                average_pool(x, shape, node.shape, *kernel, *stride, *padding, *counts_padding)
            }
            Operator::Table(function) => {
                let (x, [channels, _, _]) = input(0);
                let plane = x.len() / channels;
                let at = |(index, &value): (usize, &f32)| function.at(f64::from(value), index / plane) as f32;
                x.iter().enumerate().map(at).collect()
            }
            Operator::GeneralisedMean { inner, outer } => {
                let (x, [_, h, w]) = input(0);
                x.chunks(h * w).map(|plane| generalised_mean(inner, outer, plane)).collect()
            }
            Operator::Add { relu } => {
                let sum = |(a, b): (&f32, &f32)| if *relu { (a + b).max(0.0) } else { a + b };
                assert_eq!(input(0).1, input(1).1, "{}", node.name);
                input(0).0.iter().zip(input(1).0).map(sum).collect()
            }
            Operator::Multiply => {
                let ((x, [_, h, w]), (gate, [gates, rows, columns])) = (input(0), input(1));
                let at = |index: usize| {
                    let (channel, y, x) = (index / (h * w), index / w % h, index % w);
                    (channel % gates * rows + y % rows) * columns + x % columns
                };
                x.iter().enumerate().map(|(index, value)| value * gate[at(index)]).collect()
            }
            Operator::Normalise(factors) => normalise(input(0).0, input(0).1, factors),
            Operator::Concat => (0..node.inputs.len()).flat_map(|index| input(index).0.clone()).collect(),
            Operator::Channels(order) => {
                let (x, [_, h, w]) = input(0);
                order.iter().flat_map(|channel| x[channel * h * w..(channel + 1) * h * w].to_vec()).collect()
            }
            Operator::Pad { padding, reflects } => {
                let (x, shape) = input(0);
                pad(x, shape, node.shape, *padding, *reflects)
            }
            Operator::View => view(input(0).0, input(0).1, node.shape),
            Operator::Upsample(factors) => upsample(input(0).0, input(0).1, *factors),
            Operator::Resize { rows, columns } => resize(input(0).0, input(0).1, rows, columns),
            Operator::Interleave([vertical, horizontal]) => {
                let [channels, height, width] = node.shape;
                let at = |index: usize| {
                    let (c, y, x) = (index / (height * width), index / width % height, index % width);
                    let (phase, [_, h, w]) = input(y % vertical * horizontal + x % horizontal);
                    phase[(c * h + y / vertical) * w + x / horizontal]
                };
                (0..channels * height * width).map(at).collect()
            }
            Operator::Linear { weights, bias } => {
                let (x, _) = input(0);
                let rows = weights.chunks(x.len()).zip(bias);
                rows.map(|(row, b)| b + row.iter().zip(x).map(|(w, v)| w * v).sum::<f32>()).collect()
            }
        };
        assert_eq!(result.len(), node.shape.iter().product::<usize>(), "{}", node.name);
        assert!(node.inputs.iter().all(|&i| i < values.len()), "{}", node.name);
        values.push(result);
    }
    values
}

fn upsample(x: &[f32], [c, h, w]: [usize; 3], [vertical, horizontal]: [usize; 2]) -> Vec<f32> {
    let rows = (0..c * h).flat_map(|row| std::iter::repeat_n(row / h * h + row % h, vertical));
    rows.flat_map(|row| x[row * w..(row + 1) * w].iter().flat_map(|&v| std::iter::repeat_n(v, horizontal)))
        .collect()
}

fn resize(x: &[f32], [_, h, w]: [usize; 3], rows: &[Between], columns: &[Between]) -> Vec<f32> {
    let mix = |at: &Between, value: &dyn Fn(usize) -> f64, length: usize| {
        let second = (at.first + 1).min(length - 1);
        value(at.first) * (1.0 - at.share) + value(second) * at.share
    };
    let mut all = vec![];
    for plane in x.chunks(h * w) {
        for row in rows {
            for column in columns {
                let of_row = |x: usize| mix(row, &|y| f64::from(plane[y * w + x]), h);
                all.push(mix(column, &of_row, w) as f32);
            }
        }
    }
    all
}

fn convolution(
    c: &FloatConvolution,
    x: &[f32],
    [_, h, w]: [usize; 3],
    [outputs, oh, ow]: [usize; 3],
    residual: Option<&[f32]>,
) -> Vec<f32> {
    let per_group = c.weights.len() / (outputs * c.kernel[0] * c.kernel[1]);
    let mut out = vec![0f32; outputs * oh * ow];
    for o in 0..outputs {
        let first = o / (outputs / c.groups) * per_group;
        let plane = &mut out[o * oh * ow..(o + 1) * oh * ow];
        plane.fill(c.bias[o]);
        for i in 0..per_group {
            for ky in 0..c.kernel[0] {
                for kx in 0..c.kernel[1] {
                    let weight = c.weights[((o * per_group + i) * c.kernel[0] + ky) * c.kernel[1] + kx];
                    for oy in 0..oh {
                        let Some(y) = (oy * c.stride[0] + ky * c.dilation[0]).checked_sub(c.padding[0])
                        else {
                            continue;
                        };
                        if y >= h {
                            continue;
                        }
                        let row = &x[((first + i) * h + y) * w..][..w];
                        for ox in 0..ow {
                            let column = (ox * c.stride[1] + kx * c.dilation[1]).checked_sub(c.padding[1]);
                            if let Some(value) = column.and_then(|column| row.get(column)) {
                                plane[oy * ow + ox] += weight * value;
                            }
                        }
                    }
                }
            }
        }
    }
    if let Some(residual) = residual {
        assert_eq!(residual.len(), out.len());
        for (value, residual) in out.iter_mut().zip(residual) {
            *value += residual;
        }
    }
    if c.relu {
        for value in &mut out {
            *value = value.max(0.0).min(c.ceiling.unwrap_or(f32::INFINITY));
        }
    }
    out
}

fn average_pool(
    x: &[f32],
    [c, h, w]: [usize; 3],
    [_, oh, ow]: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
    counts_padding: bool,
) -> Vec<f32> {
    let mut out = vec![0.0; c * oh * ow];
    for (index, value) in out.iter_mut().enumerate() {
        let (channel, oy, ox) = (index / (oh * ow), index / ow % oh, index % ow);
        let mut counted = 0;
        for (y, x_at) in (0..kernel[0]).flat_map(|y| (0..kernel[1]).map(move |x| (y, x))) {
            let (y, at) = (oy * stride[0] + y, ox * stride[1] + x_at);
            let inside =
                (padding[0]..padding[0] + h).contains(&y) && (padding[1]..padding[1] + w).contains(&at);
            let padded = y < padding[0] + h + padding[2] && at < padding[1] + w + padding[3];
            if inside {
                *value += x[(channel * h + y - padding[0]) * w + at - padding[1]];
            }
            counted += usize::from(inside || (padded && counts_padding));
        }
        *value /= counted as f32;
    }
    out
}

fn pad(
    x: &[f32],
    [_, h, w]: [usize; 3],
    [c, oh, ow]: [usize; 3],
    padding: [usize; 4],
    reflects: bool,
) -> Vec<f32> {
    let source = |at: usize, before: usize, length: usize| {
        let (at, last) = (at as i64 - before as i64, length as i64 - 1);
        (if reflects { last - (last - at.abs()).abs() } else { at.clamp(0, last) }) as usize
    };
    let at = |index: usize| {
        let (y, column) = (source(index / ow % oh, padding[0], h), source(index % ow, padding[1], w));
        x[(index / (oh * ow) * h + y) * w + column]
    };
    (0..c * oh * ow).map(at).collect()
}

/// Each position's channels over their norm, times a factor for each channel.
fn normalise(x: &[f32], [_, h, w]: [usize; 3], factors: &[f32]) -> Vec<f32> {
    let plane = h * w;
    let norm = |place: usize| {
        let squares = x.iter().skip(place).step_by(plane).map(|value| value * value);
        squares.sum::<f32>().sqrt().max(1e-12)
    };
    let at = |(index, value): (usize, &f32)| value * factors[index / plane] / norm(index % plane);
    x.iter().enumerate().map(at).collect()
}

/// Rows, columns and channels keep their order.
fn view(x: &[f32], [c, h, w]: [usize; 3], [channels, height, width]: [usize; 3]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for position in 0..x.len() {
        // In the order of rows, columns and channels.
        let from = (position % c * h + position / c / w) * w + position / c % w;
        let to = (position % channels * height + position / channels / width) * width
            + position / channels % width;
        out[to] = x[from];
    }
    out
}

fn max_pool(
    x: &[f32],
    [c, h, w]: [usize; 3],
    [_, oh, ow]: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
) -> Vec<f32> {
    let mut out = vec![f32::NEG_INFINITY; c * oh * ow];
    for (index, value) in out.iter_mut().enumerate() {
        let (channel, oy, ox) = (index / (oh * ow), index / ow % oh, index % ow);
        for ky in 0..kernel[0] {
            for kx in 0..kernel[1] {
                let y = (oy * stride[0] + ky).checked_sub(padding[0]).filter(|&y| y < h);
                let column = (ox * stride[1] + kx).checked_sub(padding[1]).filter(|&x| x < w);
                if let (Some(y), Some(column)) = (y, column) {
                    *value = value.max(x[(channel * h + y) * w + column]);
                }
            }
        }
        assert!(value.is_finite());
    }
    out
}

/// Values from -1 to 1.
pub fn image(length: usize, seed: u64) -> Vec<f32> {
    Random::new(seed).reals(length)
}

/// Largest difference, relative to the largest magnitude of the expected values.
pub fn relative_error(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest.is_finite());
    let difference = expected.iter().zip(found).fold(0f32, |m, (e, f)| m.max((e - f).abs()));
    difference / largest.max(1e-6)
}

/// Checks every node's value against what tract gives for the node's tensor.
pub fn assert_equals_tract(imported: &Imported) {
    let graph = &imported.graph;
    let names: Vec<String> = graph.nodes.iter().map(|n| n.tensor.clone()).collect();
    let reference = Reference::new(imported, &names).unwrap_or_else(|e| panic!("{e}"));
    let image = image(graph.nodes[0].shape.iter().product(), 7);
    let observation = reference.run(&image).unwrap_or_else(|e| panic!("{e}"));
    let values = evaluate(graph, &image);
    for (index, node) in graph.nodes.iter().enumerate() {
        let error = relative_error(observation.tensor(index), &values[index]);
        assert!(error < 1e-3, "{}: node {} differs by {error}", graph.name, node.name);
    }
    if graph.outputs.is_empty() {
        assert_eq!(observation.logits(), observation.tensor(graph.nodes.len() - 1));
    }
}
