//! The attributes of a node.

use std::cell::RefCell;
use std::collections::HashSet;

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::array::Array;
use super::fault::attributes::AttributeFault;
use super::limits::MAX_DIMENSION;
use super::tensor::{self, Constant};
use super::value::Value;

/// A node's attributes; remembers which were read, so that none is ignored in silence.
pub(super) struct Attributes<'a> {
    node: &'a NodeProto,
    read: RefCell<HashSet<&'static str>>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(node: &'a NodeProto) -> Attributes<'a> {
        Attributes { node, read: RefCell::default() }
    }

    fn find(
        &self,
        name: &'static str,
        kind: AttributeType,
    ) -> Result<Option<&AttributeProto>, AttributeFault> {
        self.read.borrow_mut().insert(name);
        let Some(attribute) = self.node.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        // Files of the first ONNX versions do not state the type.
        let fits = [AttributeType::Undefined as i32, kind as i32].contains(&attribute.r#type);
        if !fits || !attribute.ref_attr_name.is_empty() {
            return Err(AttributeFault::Kind { name, kind: kind.as_str_name() });
        }
        Ok(Some(attribute))
    }

    pub(super) fn integer(&self, name: &'static str) -> Result<Option<i64>, AttributeFault> {
        Ok(self.find(name, AttributeType::Int)?.map(|a| a.i))
    }

    pub(super) fn float(&self, name: &'static str) -> Result<Option<f32>, AttributeFault> {
        let value = self.find(name, AttributeType::Float)?.map(|a| a.f);
        if value.is_some_and(f32::is_nan) {
            return Err(AttributeFault::NotANumber(name));
        }
        Ok(value)
    }

    pub(super) fn integers(&self, name: &'static str) -> Result<Option<Vec<i64>>, AttributeFault> {
        Ok(self.find(name, AttributeType::Ints)?.map(|a| a.ints.clone()))
    }

    pub(super) fn string(&self, name: &'static str) -> Result<Option<String>, AttributeFault> {
        Ok(self.find(name, AttributeType::String)?.map(|a| String::from_utf8_lossy(&a.s).into_owned()))
    }

    /// `N` sizes from `least` to [`MAX_DIMENSION`].
    pub(super) fn sizes<const N: usize>(
        &self,
        name: &'static str,
        least: usize,
    ) -> Result<Option<[usize; N]>, AttributeFault> {
        let Some(values) = self.integers(name)? else { return Ok(None) };
        let sizes: Option<Vec<usize>> = values
            .iter()
            .map(|&v| usize::try_from(v).ok().filter(|v| (least..=MAX_DIMENSION).contains(v)))
            .collect();
        let sizes = sizes.and_then(|s| s.try_into().ok()).map(Some);
        sizes.ok_or(AttributeFault::Sizes { name, found: values, count: N, least })
    }

    /// Reads nothing: the attribute has no influence on inference.
    pub(super) fn ignore(&self, name: &'static str) {
        self.read.borrow_mut().insert(name);
    }

    /// The value of a `Constant` node.
    pub(super) fn constant(&self) -> Result<Value, AttributeFault> {
        if let Some(tensor) = self.find("value", AttributeType::Tensor)?.and_then(|a| a.t.as_ref()) {
            return Ok(match tensor::read(tensor).map_err(AttributeFault::Value)? {
                Constant::Float(array) => Value::Float(array),
                Constant::Integer(array) => Value::Integer(array),
            });
        }
        if let Some(value) = self.float("value_float")? {
            return Ok(Value::Float(Array { dims: vec![], data: vec![value] }));
        }
        if let Some(attribute) = self.find("value_floats", AttributeType::Floats)? {
            return Ok(Value::Float(Array::vector(attribute.floats.clone())));
        }
        if let Some(value) = self.integer("value_int")? {
            return Ok(Value::Integer(Array { dims: vec![], data: vec![Some(value)] }));
        }
        if let Some(values) = self.integers("value_ints")? {
            return Ok(Value::Integer(Array::vector(values.into_iter().map(Some).collect())));
        }
        Err(AttributeFault::NoValue)
    }

    /// The number that `ConstantOfShape` repeats, in floats 0 where nothing is said.
    pub(super) fn constant_of_shape(&self) -> Result<Option<Constant>, AttributeFault> {
        let Some(tensor) = self.find("value", AttributeType::Tensor)?.and_then(|a| a.t.as_ref()) else {
            return Ok(Some(Constant::Float(Array::vector(vec![0.0]))));
        };
        let value = tensor::read(tensor).map_err(AttributeFault::Value)?;
        let count = match &value {
            Constant::Float(array) => array.data.len(),
            Constant::Integer(array) => array.data.len(),
        };
        Ok((count == 1).then_some(value))
    }

    /// Refuses attributes that nothing read.
    pub(super) fn finish(&self) -> Result<(), AttributeFault> {
        let read = self.read.borrow();
        match self.node.attribute.iter().find(|a| !read.contains(a.name.as_str())) {
            None => Ok(()),
            Some(attribute) => Err(AttributeFault::Unsupported { name: attribute.name.clone() }),
        }
    }
}
