//! `Resize` and `Upsample`: to the nearest, and by linear interpolation.

use tract_onnx::pb::NodeProto;

use crate::graph::Between;
use crate::import::attributes::Attributes;
use crate::import::fault::NodeFault;
use crate::import::fault::resizing::ResizeFault;
use crate::import::importer::Importer;
use crate::import::limits::check_activation;
use crate::import::operation::Kind;
use crate::import::value::{NCHW, Outcome, Value};

/// Which place of the input a place of the output is.
#[derive(Clone, Copy, PartialEq)]
enum Places {
    /// The middles of pixels: `(o + 1/2) / scale - 1/2`.
    HalfPixel,
    /// The same, but the first place where the output has one.
    HalfPixelOfSeveral,
    /// The middles of the corner pixels: `o * (input - 1) / (output - 1)`.
    AlignCorners,
    /// The corners of pixels: `o / scale`.
    Asymmetric,
}

/// Which pixel is the nearest.
#[derive(Clone, Copy, PartialEq)]
enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

impl Nearest {
    fn of(self, place: f64) -> f64 {
        match self {
            Self::RoundPreferFloor => (place - 0.5).ceil(),
            Self::RoundPreferCeil => (place + 0.5).floor(),
            Self::Floor => place.floor(),
            Self::Ceil => place.ceil(),
        }
    }
}

/// Along one axis.
struct Axis {
    input: usize,
    output: usize,
    scale: f64,
}

impl Axis {
    fn place(&self, at: usize, places: Places) -> f64 {
        let at = at as f64;
        match places {
            Places::HalfPixelOfSeveral | Places::AlignCorners if self.output == 1 => 0.0,
            Places::HalfPixel | Places::HalfPixelOfSeveral => (at + 0.5) / self.scale - 0.5,
            Places::AlignCorners => at * (self.input - 1) as f64 / (self.output - 1) as f64,
            Places::Asymmetric => at / self.scale,
        }
    }

    /// Where each output lies; to the nearest where that is asked for.
    fn between(&self, places: Places, nearest: Option<Nearest>) -> Vec<Between> {
        let last = (self.input - 1) as f64;
        let between = |at: usize| {
            let place = self.place(at, places);
            let place = nearest.map_or(place, |nearest| nearest.of(place)).clamp(0.0, last);
            Between { first: place as usize, share: place.fract() }
        };
        (0..self.output).map(between).collect()
    }
}

pub(super) fn resize(importer: &mut Importer<'_>, node: &NodeProto, attributes: &Attributes<'_>) -> Outcome {
    let (_, [channels, height, width]) = importer.image(node)?;
    let data = importer.plain(node, 0)?;
    // The reference needs them all.
    for position in 1..node.input.len() {
        importer.optional(node, position)?;
    }
    for name in ["cubic_coeff_a", "exclude_outside", "extrapolation_value", "keep_aspect_ratio_policy"] {
        attributes.ignore(name);
    }
    let antialias = attributes.integer("antialias")?.unwrap_or(0) != 0;
    let mode = attributes.string("mode")?.unwrap_or_else(|| "nearest".into());
    let transformation = attributes.string("coordinate_transformation_mode")?;
    let nearest = attributes.string("nearest_mode")?;
    if !["nearest", "linear"].contains(&mode.as_str()) {
        return Err(ResizeFault::Mode { mode }.into());
    }
    let target = target(importer, node, [channels, height, width])?;
    if target[0].output != channels {
        return Err(ResizeFault::Channels { made: target[0].output, channels }.into());
    }
    if let Some(factor) = repeats(&target, &mode, transformation.as_deref(), nearest.as_deref(), node) {
        if factor == [1, 1] {
            return Ok(Value::Data(data));
        }
        let shape = [channels, height * factor[0], width * factor[1]];
        return importer.value_of(node, Kind::Upsample(factor), vec![data.operation], shape, &NCHW);
    }
    let [_, rows, columns] = &target;
    if antialias && (rows.scale < 1.0 || columns.scale < 1.0) {
        return Err(ResizeFault::Antialias.into());
    }
    let old = importer.opset < 11;
    let places = match transformation.as_deref() {
        None if old => Places::Asymmetric,
        None | Some("half_pixel") => Places::HalfPixel,
        Some("pytorch_half_pixel") => Places::HalfPixelOfSeveral,
        Some("align_corners") => Places::AlignCorners,
        Some("asymmetric") => Places::Asymmetric,
        Some(other) => return Err(ResizeFault::Transformation { mode: other.into() }.into()),
    };
    let nearest = match nearest.as_deref() {
        _ if mode == "linear" => None,
        None if old => Some(Nearest::Floor),
        None | Some("round_prefer_floor") => Some(Nearest::RoundPreferFloor),
        Some("round_prefer_ceil") => Some(Nearest::RoundPreferCeil),
        Some("floor") => Some(Nearest::Floor),
        Some("ceil") => Some(Nearest::Ceil),
        Some(other) => return Err(ResizeFault::Nearest { mode: other.into() }.into()),
    };
    let shape = [channels, rows.output, columns.output];
    check_activation(&shape)?;
    let kind =
        Kind::Resize { rows: rows.between(places, nearest), columns: columns.between(places, nearest) };
    importer.value_of(node, kind, vec![data.operation], shape, &NCHW)
}

/// Channels, height and width before and after.
fn target(importer: &mut Importer<'_>, node: &NodeProto, own: [usize; 3]) -> Result<[Axis; 3], NodeFault> {
    let (scales_at, sizes_at) =
        if node.op_type == "Upsample" || importer.opset < 11 { (1, 3) } else { (2, 3) };
    let within = |size: f64| (1.0..=f64::from(1 << 16)).contains(&size).then_some(size as usize);
    let axes: Vec<Option<Axis>> = match importer.weights(node, scales_at)? {
        Some(scales) if scales.data.len() == 4 => own
            .iter()
            .zip(&scales.data[1..])
            .map(|(&input, &scale)| {
                // Numbers such as 2.0000001 and 0.3333333 mean whole sizes.
                let size = f64::from(scale) * input as f64;
                let whole = size.round();
                let output = within(if (size - whole).abs() < 1e-3 { whole } else { size.floor() })?;
                Some(Axis { input, output, scale: f64::from(scale) })
            })
            .collect(),
        _ => match importer.input(node, sizes_at)? {
            Value::Integer(sizes) if sizes.data.len() == 4 => own
                .iter()
                .zip(&sizes.data[1..])
                .map(|(&input, size)| {
                    let output = within(size.unwrap_or(0) as f64)?;
                    Some(Axis { input, output, scale: output as f64 / input as f64 })
                })
                .collect(),
            _ => return Err(ResizeFault::Computed.into()),
        },
    };
    let axes: Option<Vec<Axis>> = axes.into_iter().collect();
    axes.and_then(|axes| axes.try_into().ok()).ok_or_else(|| ResizeFault::Sizes.into())
}

/// The factors by which it repeats each pixel, if it does no more than that.
fn repeats(
    [_, rows, columns]: &[Axis; 3],
    mode: &str,
    transformation: Option<&str>,
    nearest: Option<&str>,
    node: &NodeProto,
) -> Option<[usize; 2]> {
    let fits = match transformation {
        Some("asymmetric") => nearest.is_none_or(|how| how == "floor"),
        Some("half_pixel" | "pytorch_half_pixel") | None => {
            nearest.is_none_or(|how| how.starts_with("round_prefer"))
        }
        _ => false,
    };
    let factor = |axis: &Axis| {
        let factor = axis.output / axis.input;
        ((1..=64).contains(&factor) && factor * axis.input == axis.output).then_some(factor)
    };
    let factors = [factor(rows)?, factor(columns)?];
    let same = factors == [1, 1];
    (same || (mode == "nearest" && (fits || node.op_type == "Upsample"))).then_some(factors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(input: usize, output: usize, places: Places, nearest: Option<Nearest>) -> Vec<f64> {
        let axis = Axis { input, output, scale: output as f64 / input as f64 };
        let between = axis.between(places, nearest);
        between.iter().map(|between| between.first as f64 + between.share).collect()
    }

    #[test]
    fn places_are_those_of_the_standard() {
        assert_eq!(places(2, 4, Places::HalfPixel, None), [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(places(3, 5, Places::AlignCorners, None), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(places(2, 4, Places::Asymmetric, None), [0.0, 0.5, 1.0, 1.0]);
        assert_eq!(places(4, 1, Places::HalfPixel, None), [1.5]);
        assert_eq!(places(4, 1, Places::HalfPixelOfSeveral, None), [0.0]);
        assert_eq!(places(1, 3, Places::HalfPixel, None), [0.0; 3]);
        let nearest = |how| places(2, 4, Places::Asymmetric, Some(how));
        assert_eq!(nearest(Nearest::Floor), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(nearest(Nearest::RoundPreferFloor), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(nearest(Nearest::RoundPreferCeil), [0.0, 1.0, 1.0, 1.0]);
        assert_eq!(nearest(Nearest::Ceil), [0.0, 1.0, 1.0, 1.0]);
    }
}
