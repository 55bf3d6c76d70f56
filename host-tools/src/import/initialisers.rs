//! How a node gets at an initialiser: in the file's message, or outside of it.

use super::array::Array;
use super::importer::Importer;
use super::outside::{Outside, stays_outside};
use super::tensor::{self, Constant, TensorFault};

impl Importer<'_> {
    /// The initialiser at `index` of `tensors`.
    pub(super) fn constant(&mut self, index: usize) -> Result<Constant, TensorFault> {
        let is_first = self.used.insert(index);
        let tensor = &mut self.tensors[index];
        if !tensor::is_external(tensor) {
            return tensor::read(tensor);
        }
        let external = tensor::External::of(tensor, self.folder)?;
        if is_first {
            external.charge(&mut self.external)?;
        }
        let count = external.dims.iter().product();
        if !stays_outside(tensor, count) {
            external.load(tensor)?;
            return tensor::read(tensor);
        }
        external.check()?;
        let outside = Outside::new(&tensor.name, external.dims.clone(), &external.path, external.offset);
        let outside = outside?;
        let mut data = vec![0.0; count];
        outside.read(&mut data)?;
        self.outside.insert(index, outside);
        Ok(Constant::Float(Array { dims: external.dims, data }))
    }
}
