//! From an image to the input of a network.
//!
//! The transform is torchvision's for evaluation, the same bytes: the shorter side resized
//! (bilinear and antialiased where nothing else is said), the centre cropped, normalised per channel. An int8 network
//! takes its input through a table of 256 entries per channel; by default `value - 128`, so
//! that a step of the input is exactly one grey level and nothing is lost, with mean and
//! standard deviation folded into the first convolution.

use resight_kernels::{Parallel, Sequential};
use serde::{Deserialize, Serialize};

use crate::bayer::Demosaic;
use crate::channels::Channels;
use crate::error::ImagingError;
use crate::fit::Fit;
use crate::interpolation::Interpolation;
use crate::limits::MAX_INPUT_SIDE;
use crate::orientation::{Orientation, Rotation};
use crate::pixels::ImageView;
use crate::rectangle::Rectangle;
use crate::resize::{Crop, Resizer};

/// How an image becomes the input of a network: the member `preprocessing.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Length that the shorter side is resized to, in pixels, `1..=4096`. Only for [`Fit::Crop`].
    pub resize_shorter: u32,
    /// Height and width of the network's input, in pixels, each `1..=resize_shorter`.
    pub crop: [u32; 2],
    /// Mean of each channel, of values in `0..=1`, in the order of `channels`; for one channel,
    /// three times the same.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, of values in `0..=1`; as `mean`.
    pub standard_deviation: [f32; 3],
    /// Which values of a pixel the network takes. Absent in files where it is the default.
    #[serde(default, skip_serializing_if = "Channels::is_default")]
    pub channels: Channels,
    /// How a picture becomes as large as the input. Absent in files where it is the default.
    #[serde(default, skip_serializing_if = "Fit::is_default")]
    pub fit: Fit,
    /// How pixels of the resized picture are made. Absent in files where it is the default.
    #[serde(default, skip_serializing_if = "Interpolation::is_default")]
    pub interpolation: Interpolation,
}

impl Default for Preprocessing {
    /// What the `ImageNet` networks of torchvision were trained for.
    fn default() -> Self {
        Preprocessing {
            resize_shorter: 256,
            crop: [224, 224],
            mean: [0.485, 0.456, 0.406],
            standard_deviation: [0.229, 0.224, 0.225],
            channels: Channels::Rgb,
            fit: Fit::Crop,
            interpolation: Interpolation::Bilinear,
        }
    }
}

/// Where an image is in that which a network is given of it: place `p` along an axis, in pixels from
/// its edge, is `p * scale + offset` there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// Pixels of the network's image in one of the image, `[vertical, horizontal]`.
    scale: [f32; 2],
    /// Pixels of the network's image, `[vertical, horizontal]`.
    offset: [f32; 2],
    /// `[height, width]` of the image.
    size: [f32; 2],
    /// `[height, width]` of the network's image before it is turned.
    input: [f32; 2],
    orientation: Orientation,
}

impl Placement {
    /// The place `[row, column]` of the image that a place of the network's image shows, both in
    /// pixels from the upper left corner. It may be outside of the image.
    pub fn in_image(&self, place: [f32; 2]) -> [f32; 2] {
        let place = self.orientation.place_before(place, self.input);
        [0, 1].map(|axis| (place[axis] - self.offset[axis]) / self.scale[axis])
    }

    /// Where a place `[row, column]` of the image is in the network's, both in pixels from the upper
    /// left corner. It may be outside of that.
    pub fn in_network(&self, place: [f32; 2]) -> [f32; 2] {
        let place = [0, 1].map(|axis| place[axis] * self.scale[axis] + self.offset[axis]);
        self.orientation.place_after(place, self.input)
    }

    /// A rectangle in shares of the network's image, as one in shares of the image. It may reach beyond
    /// that, as a letterbox does.
    pub fn rectangle(&self, [left, top, width, height]: Rectangle) -> Rectangle {
        let [across, down] =
            if self.orientation.is_sideways() { self.input } else { [self.input[1], self.input[0]] };
        let corner = |x: f32, y: f32| self.in_image([y * down, x * across]);
        // A turned picture has other corners first.
        let ([y0, x0], [y1, x1]) = (corner(left, top), corner(left + width, top + height));
        let [rows, columns] = self.size;
        [x0.min(x1) / columns, y0.min(y1) / rows, (x1 - x0).abs() / columns, (y1 - y0).abs() / rows]
    }

    /// `[height, width]` of the image.
    pub fn size(&self) -> [f32; 2] {
        self.size
    }
}

impl Preprocessing {
    /// Mean and deviation of each channel.
    pub fn normalisation(&self) -> [[f32; 2]; 3] {
        std::array::from_fn(|channel| [self.mean[channel], self.standard_deviation[channel]])
    }

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
        #[expect(clippy::float_cmp, reason = "the same number three times")]
        let is_one = |values: [f32; 3]| values == [values[0]; 3];
        if self.channels == Channels::Gray && !(is_one(self.mean) && is_one(self.standard_deviation)) {
            return refuse(format!(
                "one channel has one mean and one standard deviation, three times the same, not {:?} and {:?}",
                self.mean, self.standard_deviation
            ));
        }
        Ok(())
    }

    /// Where an image of `size` (height and width) is in the network's, which is turned so afterwards.
    pub fn placement(&self, size: [u32; 2], orientation: Orientation) -> Placement {
        let mut input = self.crop;
        if orientation.is_sideways() {
            input.reverse();
        }
        let Crop { resized, origin, size: inner } = self.fit.crop(size, input, self.resize_shorter);
        let axis = |axis: usize| {
            // A letterbox puts the picture in the middle, a crop takes it from there.
            let margin = (input[axis] - inner[axis]) / 2;
            (resized[axis] as f32 / size[axis] as f32, margin as f32 - origin[axis] as f32)
        };
        let [(vertical, top), (horizontal, left)] = [axis(0), axis(1)];
        Placement {
            scale: [vertical, horizontal],
            offset: [top, left],
            size: size.map(|side| side as f32),
            input: input.map(|side| side as f32),
            orientation,
        }
    }

    /// The mean as a pixel, red, green and blue.
    fn background(&self) -> [u8; 3] {
        let level = |channel: usize| (self.mean[channel] * 255.0).round().clamp(0.0, 255.0) as u8;
        match self.channels {
            Channels::Rgb => [level(0), level(1), level(2)],
            Channels::Bgr => [level(2), level(1), level(0)],
            Channels::Gray => [level(0); 3],
        }
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

/// Puts the RGB picture `inner` in the middle of `output`, both of so many rows and columns, and
/// fills the rest.
fn letterbox(inner: &[u8], size: [u32; 2], output: &mut [u8], input: [u32; 2], background: [u8; 3]) {
    let [height, width] = size.map(|side| side as usize);
    let [top, left] = [(input[0] - size[0]) / 2, (input[1] - size[1]) / 2].map(|side| side as usize);
    for (row, line) in output.chunks_exact_mut(input[1] as usize * 3).enumerate() {
        let (pixels, _) = line.as_chunks_mut::<3>();
        pixels.fill(background);
        if (top..top + height).contains(&row) {
            let source = &inner[(row - top) * width * 3..][..width * 3];
            line[left * 3..(left + width) * 3].copy_from_slice(source);
        }
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
    /// The picture within a letterbox.
    inner: Vec<u8>,
    /// RGB bytes, `[height, width, 3]`.
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
            resizer: Resizer::new(preprocessing.interpolation),
            demosaic: Demosaic::default(),
            demosaiced: vec![],
            unturned: vec![],
            inner: vec![],
            pixels: vec![0; height as usize * width as usize * 3],
        })
    }

    /// What it was made from.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Number of values of one input: `height * width * channels`.
    pub fn input_len(&self) -> usize {
        self.pixels.len() / 3 * self.preprocessing.channels.count()
    }

    /// Turns each image before the network sees it. The crop is the same part of the image,
    /// but where it cannot lie exactly in the middle.
    pub fn set_orientation(&mut self, orientation: Orientation) {
        self.orientation = orientation;
        let turned = orientation != Orientation::default();
        self.unturned.resize(if turned { self.pixels.len() } else { 0 }, 0);
    }

    /// How each image is turned.
    pub fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// Resizes and crops: RGB bytes, `[height, width, 3]`.
    pub fn crop(&mut self, image: &ImageView<'_>) -> &[u8] {
        self.crop_on(&Sequential, image)
    }

    fn crop_on(&mut self, parallel: &dyn Parallel, image: &ImageView<'_>) -> &[u8] {
        let size = image.size();
        let mut preprocessing = self.preprocessing.clone();
        if matches!(self.orientation.rotation, Rotation::Clockwise | Rotation::Counterclockwise) {
            preprocessing.crop.reverse();
        }
        let input = preprocessing.crop;
        let crop = preprocessing.fit.crop(size, input, preprocessing.resize_shorter);
        let pixels = if self.unturned.is_empty() { &mut self.pixels } else { &mut self.unturned };
        let is_boxed = crop.size != input;
        let target = if is_boxed { &mut self.inner } else { &mut *pixels };
        target.resize(crop.size[0] as usize * crop.size[1] as usize * 3, 0);
        match image.bayer() {
            Some(mosaic) => {
                self.demosaic.rgb(parallel, &mosaic, &mut self.demosaiced);
                let image = ImageView::rgb(&self.demosaiced, size).expect("a buffer made for this size");
                self.resizer.resize(parallel, &image, crop, target);
            }
            None => self.resizer.resize(parallel, image, crop, target),
        }
        if is_boxed {
            letterbox(&self.inner, crop.size, pixels, input, preprocessing.background());
        }
        if !self.unturned.is_empty() {
            let size = preprocessing.crop.map(|side| side as usize);
            self.orientation.turn(&self.unturned, size, &mut self.pixels);
        }
        &self.pixels
    }

    /// The input of a float network: normalised, `[channels, height, width]`.
    ///
    /// # Errors
    /// An `output` whose length is not [`input_len`](Self::input_len).
    pub fn normalise(&mut self, image: &ImageView<'_>, output: &mut [f32]) -> Result<(), ImagingError> {
        self.expect_len(output.len())?;
        self.crop(image);
        let channels = self.preprocessing.channels;
        let planes = output.chunks_exact_mut(self.pixels.len() / 3);
        let (pixels, _) = self.pixels.as_chunks::<3>();
        for (channel, (plane, table)) in planes.zip(self.normalised.iter()).enumerate() {
            for (output, &pixel) in plane.iter_mut().zip(pixels) {
                *output = table[usize::from(channels.of(pixel, channel))];
            }
        }
        Ok(())
    }

    /// The input of an int8 network: through the table, `[height, width, channels]`.
    ///
    /// # Errors
    /// An `output` whose length is not [`input_len`](Self::input_len).
    pub fn quantise(&mut self, image: &ImageView<'_>, output: &mut [i8]) -> Result<(), ImagingError> {
        self.quantise_on(&Sequential, image, output)
    }

    /// The same by several threads: each converts and resizes a band of rows.
    ///
    /// # Errors
    /// An `output` whose length is not [`input_len`](Self::input_len).
    pub fn quantise_on(
        &mut self,
        parallel: &dyn Parallel,
        image: &ImageView<'_>,
        output: &mut [i8],
    ) -> Result<(), ImagingError> {
        self.expect_len(output.len())?;
        self.crop_on(parallel, image);
        let channels = self.preprocessing.channels;
        if self.plain && channels == Channels::Rgb {
            for (output, &value) in output.iter_mut().zip(&self.pixels) {
                // The table's entry, by an instruction instead of a load.
                *output = (value ^ 128) as i8;
            }
            return Ok(());
        }
        let (pixels, _) = self.pixels.as_chunks::<3>();
        for (output, &pixel) in output.chunks_exact_mut(channels.count()).zip(pixels) {
            for (channel, (output, table)) in output.iter_mut().zip(&self.table.0).enumerate() {
                *output = table[usize::from(channels.of(pixel, channel))];
            }
        }
        Ok(())
    }

    fn expect_len(&self, len: usize) -> Result<(), ImagingError> {
        if len == self.input_len() {
            return Ok(());
        }
        Err(ImagingError::Preprocessing(format!("room for {len} values, an input has {}", self.input_len())))
    }
}
