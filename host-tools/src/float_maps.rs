//! The maps of an f32 network, as decoders take them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use resight_imaging::{ImageView, Preprocessor};
use resight_runtime::{Head, Model};

use crate::reference::Reference;
use crate::tasks::Decoder;

/// The f32 network behind an int8 one.
pub(crate) struct FloatMaps {
    reference: Arc<Reference>,
    preprocessor: Preprocessor,
    /// `[channels, height, width]` of the outputs.
    shapes: Arc<Vec<[usize; 3]>>,
}

impl FloatMaps {
    /// The network at `path`, with the preprocessing of an int8 model, and its head.
    ///
    /// # Errors
    /// A network that the decoder does not fit, or of another size.
    pub(crate) fn new(path: &Path, int8: &Model, decoder: &Decoder) -> Result<(Self, Head)> {
        let size = int8.preprocessing().crop.map(|side| side as usize);
        let imported = decoder.import(path, Some(size))?;
        ensure!(
            imported.graph.nodes[0].shape[1..] == size,
            "{}: its image is not of the size of {}",
            path.display(),
            int8.file()
        );
        let head = decoder.head(&imported.graph, path)?;
        let outputs = imported.graph.output_nodes();
        let tensors: Vec<String> =
            outputs.iter().map(|&node| imported.graph.nodes[node].tensor.clone()).collect();
        let shapes = outputs.iter().map(|&node| imported.graph.nodes[node].shape).collect();
        let maps = Self {
            reference: Arc::new(Reference::new(&imported, &tensors)?),
            preprocessor: Preprocessor::new(int8.preprocessing())?,
            shapes: Arc::new(shapes),
        };
        Ok((maps, head))
    }

    /// Another one for another thread.
    ///
    /// # Errors
    /// None that `new` has not had.
    pub(crate) fn fork(&self) -> Result<Self> {
        Ok(Self {
            reference: self.reference.clone(),
            preprocessor: Preprocessor::new(self.preprocessor.preprocessing())?,
            shapes: self.shapes.clone(),
        })
    }

    /// How pictures become the network's input.
    pub(crate) fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// The outputs for an image, `[height][width][channels]` each.
    ///
    /// # Errors
    /// See [`Reference::run`].
    pub(crate) fn run(&mut self, image: &ImageView<'_>) -> Result<Vec<Vec<f32>>> {
        let mut input = vec![0.0; self.preprocessor.input_len()];
        self.preprocessor.normalise(image, &mut input)?;
        let observation = self.reference.run(&input)?;
        let channels_last = |(output, &[channels, height, width]): (usize, &[usize; 3])| {
            let (values, area) = (observation.tensor(output), height * width);
            (0..values.len()).map(|at| values[at % channels * area + at / channels]).collect()
        };
        Ok(self.shapes.iter().enumerate().map(channels_last).collect())
    }
}
