//! From an image to the input of a network.
//!
//! The transform is torchvision's for evaluation, the same bytes: the shorter side resized
//! (bilinear, antialiased), the centre cropped, normalised per channel. An int8 network
//! takes its input through a table of 256 entries per channel; by default `value - 128`, so
//! that a step of the input is exactly one grey level and nothing is lost, with mean and
//! standard deviation folded into the first convolution.

use serde::{Deserialize, Serialize};

use crate::bayer::Demosaic;
use crate::error::ImagingError;
use crate::limits::MAX_INPUT_SIDE;
use crate::orientation::{Orientation, Rotation};
use crate::pixels::ImageView;
use crate::resize::{Crop, Resizer};

/// How an image becomes the input of a network: the member `preprocessing.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Length that the shorter side is resized to, in pixels, `1..=4096`.
    pub resize_shorter: u32,
    /// Height and width of the centre crop, in pixels, each `1..=resize_shorter`.
    pub crop: [u32; 2],
    /// Mean of red, green and blue, of values in `0..=1`.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, of values in `0..=1`.
    pub standard_deviation: [f32; 3],
}

impl Default for Preprocessing {
    /// What the `ImageNet` networks of torchvision were trained for.
    fn default() -> Self {
        Preprocessing {
            resize_shorter: 256,
            crop: [224, 224],
            mean: [0.485, 0.456, 0.406],
            standard_deviation: [0.229, 0.224, 0.225],
        }
    }
}

impl Preprocessing {
    /// The `ImageNet` statistics for a network whose input is `height` x `width`.
    ///
    /// The shorter side keeps `ImageNet`'s ratio of 256 to 224 to the larger side of the crop,
    /// except for inputs up to 64 pixels: such images (CIFAR) come in the size that the
    /// network takes.
    pub fn for_input(height: u32, width: u32) -> Self {
        let larger = height.max(width);
        let resize_shorter = if larger <= 64 {
            larger
        } else {
            (u64::from(larger) * 256 / 224).min(u64::from(u32::MAX)) as u32
        };
        Preprocessing { resize_shorter, crop: [height, width], ..Preprocessing::default() }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// A side of zero or above [`MAX_INPUT_SIDE`], a crop larger than the resized image, a
    /// mean that is not finite, a standard deviation that is not finite and positive.
    pub fn validate(&self) -> Result<(), ImagingError> {
        let refuse = |cause: String| Err(ImagingError::Preprocessing(cause));
        if !(1..=MAX_INPUT_SIDE).contains(&self.resize_shorter) {
            return refuse(format!("resize_shorter is {}, not 1 to {MAX_INPUT_SIDE}", self.resize_shorter));
        }
        if self.crop.iter().any(|side| !(1..=self.resize_shorter).contains(side)) {
            return refuse(format!(
                "a crop of {} x {} does not lie within the resized shorter side, {}",
                self.crop[0], self.crop[1], self.resize_shorter
            ));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return refuse(format!("the mean {:?} is not finite", self.mean));
        }
        // A subnormal would make an infinity of the quotient.
        if !self.standard_deviation.iter().all(|deviation| deviation.is_normal() && *deviation > 0.0) {
            return refuse(format!(
                "the standard deviation {:?} is not finite and positive",
                self.standard_deviation
            ));
        }
        Ok(())
    }

    /// Height and width of an image of `size` (height and width) after resizing.
    fn resized(&self, size: [u32; 2]) -> [u32; 2] {
        let (shorter, longer) = (size[0].min(size[1]), size[0].max(size[1]));
        let target = self.resize_shorter;
        let other = (u64::from(target) * u64::from(longer) / u64::from(shorter)) as u32;
        if size[0] <= size[1] { [target, other] } else { [other, target] }
    }

    /// Where the crop lies in an image of `size` (height and width) after resizing.
    fn crop_of(&self, size: [u32; 2]) -> Crop {
        let resized = self.resized(size);
        let margin = |axis: usize| {
            // Half the difference, a half rounded to the even number as Python does.
            let difference = resized[axis] - self.crop[axis];
            let half = difference / 2;
            half + (difference & half & 1)
        };
        Crop { resized, origin: [margin(0), margin(1)], size: self.crop }
    }

    /// What `value` of `channel` becomes for a float network: `(value / 255 - mean) / deviation`
    /// in f32, in this order, as torchvision computes it.
    fn normalise(&self, channel: usize, value: u8) -> f32 {
        (f32::from(value) / 255.0 - self.mean[channel]) / self.standard_deviation[channel]
    }
}

/// What each grey level of each channel becomes at the input of an int8 network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTable([[i8; 256]; 3]);

impl Default for InputTable {
    /// `value - 128`: no grey level is lost, and the network's first convolution holds mean
    /// and standard deviation.
    fn default() -> Self {
        InputTable([std::array::from_fn(|value| (value as i32 - 128) as i8); 3])
    }
}

impl InputTable {
    /// A table of its own for red, green and blue.
    pub fn new(table: [[i8; 256]; 3]) -> Self {
        InputTable(table)
    }

    /// The table of a network whose input is the normalised image, quantised with `scale` and
    /// `zero_point`: `saturate(round(normalised / scale) + zero_point)`, halves rounded to
    /// even, as ONNX `QuantizeLinear` does.
    ///
    /// # Errors
    /// A scale that is not finite and positive, or invalid preprocessing.
    pub fn quantising(
        preprocessing: &Preprocessing,
        scale: f32,
        zero_point: i8,
    ) -> Result<Self, ImagingError> {
        preprocessing.validate()?;
        if !scale.is_normal() || scale <= 0.0 {
            return Err(ImagingError::Preprocessing(format!(
                "the input's scale {scale} is not finite and positive"
            )));
        }
        Ok(InputTable(std::array::from_fn(|channel| {
            std::array::from_fn(|value| {
                let steps = (preprocessing.normalise(channel, value as u8) / scale).round_ties_even();
                // The cast to i8 saturates.
                (steps + f32::from(zero_point)) as i8
            })
        })))
    }

    /// The entries: channel (red, green, blue), then grey level.
    pub fn entries(&self) -> &[[i8; 256]; 3] {
        &self.0
    }
}

/// Preprocesses images, and keeps its buffers: once warm, images of one size cost no
/// allocation.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    preprocessing: Preprocessing,
    table: InputTable,
    normalised: Box<[[f32; 256]; 3]>,
    /// Whether the table is the default.
    plain: bool,
    orientation: Orientation,
    resizer: Resizer,
    demosaic: Demosaic,
    demosaiced: Vec<u8>,
    /// The crop before it is turned; empty while that does nothing.
    unturned: Vec<u8>,
    pixels: Vec<u8>,
}

impl Preprocessor {
    /// A preprocessor with the [default table](InputTable::default).
    ///
    /// # Errors
    /// See [`Preprocessing::validate`].
    pub fn new(preprocessing: &Preprocessing) -> Result<Self, ImagingError> {
        Self::with_table(preprocessing, InputTable::default())
    }

    /// A preprocessor with a table of its own.
    ///
    /// # Errors
    /// See [`Preprocessing::validate`].
    pub fn with_table(preprocessing: &Preprocessing, table: InputTable) -> Result<Self, ImagingError> {
        preprocessing.validate()?;
        let [height, width] = preprocessing.crop;
        Ok(Preprocessor {
            preprocessing: preprocessing.clone(),
            plain: table == InputTable::default(),
            table,
            orientation: Orientation::default(),
            normalised: Box::new(std::array::from_fn(|channel| {
                std::array::from_fn(|value| preprocessing.normalise(channel, value as u8))
            })),
            resizer: Resizer::default(),
            demosaic: Demosaic::default(),
            demosaiced: vec![],
            unturned: vec![],
            pixels: vec![0; height as usize * width as usize * 3],
        })
    }

    /// What it was made from.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Number of values of one input: `height * width * 3` of the crop.
    pub fn input_len(&self) -> usize {
        self.pixels.len()
    }

    /// Turns each image before the network sees it. The crop is the same part of the image,
    /// but where it cannot lie exactly in the middle.
    pub fn set_orientation(&mut self, orientation: Orientation) {
        self.orientation = orientation;
        let turned = orientation != Orientation::default();
        self.unturned.resize(if turned { self.pixels.len() } else { 0 }, 0);
    }

    /// Resizes and crops: RGB bytes, `[height, width, 3]`.
    #[expect(clippy::missing_panics_doc, reason = "the buffer is made for its size")]
    pub fn crop(&mut self, image: &ImageView<'_>) -> &[u8] {
        let size = image.size();
        let mut preprocessing = self.preprocessing.clone();
        if matches!(self.orientation.rotation, Rotation::Clockwise | Rotation::Counterclockwise) {
            preprocessing.crop.reverse();
        }
        let crop = preprocessing.crop_of(size);
        let pixels = if self.unturned.is_empty() { &mut self.pixels } else { &mut self.unturned };
        match image.bayer() {
            Some(mosaic) => {
                self.demosaic.rgb(&mosaic, &mut self.demosaiced);
                let image = ImageView::rgb(&self.demosaiced, size).expect("a buffer made for this size");
                self.resizer.resize(&image, crop, pixels);
            }
            None => self.resizer.resize(image, crop, pixels),
        }
        if !self.unturned.is_empty() {
            let size = preprocessing.crop.map(|side| side as usize);
            self.orientation.turn(&self.unturned, size, &mut self.pixels);
        }
        &self.pixels
    }

    /// The input of a float network: normalised, `[3, height, width]`.
    ///
    /// # Errors
    /// An `output` whose length is not [`input_len`](Self::input_len).
    pub fn normalise(&mut self, image: &ImageView<'_>, output: &mut [f32]) -> Result<(), ImagingError> {
        self.expect_len(output.len())?;
        self.crop(image);
        let planes = output.chunks_exact_mut(self.pixels.len() / 3);
        for (channel, (plane, table)) in planes.zip(self.normalised.iter()).enumerate() {
            let values = self.pixels.iter().skip(channel).step_by(3);
            for (output, &value) in plane.iter_mut().zip(values) {
                *output = table[usize::from(value)];
            }
        }
        Ok(())
    }

    /// The input of an int8 network: through the table, `[height, width, 3]`.
    ///
    /// # Errors
    /// An `output` whose length is not [`input_len`](Self::input_len).
    pub fn quantise(&mut self, image: &ImageView<'_>, output: &mut [i8]) -> Result<(), ImagingError> {
        self.expect_len(output.len())?;
        self.crop(image);
        if self.plain {
            for (output, &value) in output.iter_mut().zip(&self.pixels) {
                // The table's entry, by an instruction instead of a load.
                *output = (value ^ 128) as i8;
            }
            return Ok(());
        }
        for (output, pixel) in output.chunks_exact_mut(3).zip(self.pixels.chunks_exact(3)) {
            for ((output, &value), table) in output.iter_mut().zip(pixel).zip(&self.table.0) {
                *output = table[usize::from(value)];
            }
        }
        Ok(())
    }

    fn expect_len(&self, len: usize) -> Result<(), ImagingError> {
        if len == self.pixels.len() {
            return Ok(());
        }
        Err(ImagingError::Preprocessing(format!("room for {len} values, an input has {}", self.pixels.len())))
    }
}
