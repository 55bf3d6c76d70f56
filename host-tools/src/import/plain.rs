//! What files have besides the network, made plain before it is read: sparse initialisers become dense ones,
//! a network of a fixed number of pictures one of a single picture, and a detour over a vector a change of
//! dimensions.

use std::collections::{BTreeMap, HashMap, HashSet};

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto};

use super::array::Array;
use super::fault::ModelFault;
use super::fault::sparse::SparseFault;
use super::limits::{MAX_WEIGHTS, elements};
use super::model;
use super::tensor::{self, Constant};

/// Makes the graph plain. A second time it changes nothing.
pub(super) fn make_plain(graph: &mut GraphProto) -> Result<(), ModelFault> {
    let mut weights = 0usize;
    for sparse in std::mem::take(&mut graph.sparse_initializer) {
        let name = sparse.values.as_ref().map_or("", |values| &values.name).to_owned();
        let dense = match dense(&sparse, &mut weights) {
            Ok(dense) => dense,
            Err(cause) => return Err(ModelFault::Sparse { name, cause }),
        };
        graph.initializer.push(tensor::to_proto(&name, &dense));
    }
    // Without a value it is the float 0, which tract 0.23.9 takes for one of 64 bits.
    for node in graph.node.iter_mut().filter(|node| node.op_type == "ConstantOfShape") {
        if !node.attribute.iter().any(|attribute| attribute.name == "value") {
            node.attribute.push(AttributeProto {
                name: "value".into(),
                r#type: AttributeType::Tensor as i32,
                t: Some(tensor::to_proto("", &Array::vector(vec![0.0]))),
                ..AttributeProto::default()
            });
        }
    }
    make_single(graph);
    join_flattenings(graph);
    Ok(())
}

/// Initialisers and what `Constant` nodes hold, by name.
pub(super) fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    let made = graph.node.iter().filter(|node| node.op_type == "Constant").filter_map(|node| {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value")?;
        Some((node.output.first()?.as_str(), value.t.as_ref()?))
    });
    graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).chain(made).collect()
}

/// Names of all tensors that are made or stored.
fn names(graph: &GraphProto) -> HashSet<String> {
    let made = graph.node.iter().flat_map(|node| node.output.iter().cloned());
    graph.initializer.iter().map(|tensor| tensor.name.clone()).chain(made).collect()
}

/// A name like `base` that is not among the names, and is from now on.
fn unused(names: &mut HashSet<String>, base: &str) -> String {
    let mut name = base.to_owned();
    while !names.insert(name.clone()) {
        name.push('_');
    }
    name
}

/// Makes a `Reshape` of a `Reshape` to a vector and a `Gather` of all its elements in their order: how PyTorch
/// exports `as_strided`, into which it turns an average over the image when it quantises.
fn join_flattenings(graph: &mut GraphProto) {
    let makers: HashMap<&str, &NodeProto> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Reshape")
        .filter_map(|node| Some((node.output.first()?.as_str(), node)))
        .collect();
    let constants = constants(graph);
    let mut joined: Vec<(usize, String, Vec<i64>)> = vec![];
    for (index, node) in graph.node.iter().enumerate().filter(|(_, node)| node.op_type == "Gather") {
        let axis = node.attribute.iter().find(|attribute| attribute.name == "axis").map_or(0, |axis| axis.i);
        let [vector, indices] = node.input.as_slice() else { continue };
        let Some([source, shape]) = makers.get(vector.as_str()).map(|maker| maker.input.as_slice()) else {
            continue;
        };
        let known = |name: &String| constants.get(name.as_str()).and_then(|tensor| tensor::read(tensor).ok());
        let Some(Constant::Integer(shape)) = known(shape) else { continue };
        let Some(Constant::Integer(indices)) = known(indices) else { continue };
        let in_order = indices.data.iter().copied().eq((0..).map(Some).take(indices.data.len()));
        if axis == 0 && shape.known() == Some(vec![-1]) && in_order {
            let dims = indices.dims.iter().map(|&size| size as i64).collect();
            joined.push((index, source.clone(), dims));
        }
    }
    if joined.is_empty() {
        return;
    }
    let mut names = names(graph);
    for (index, source, dims) in joined {
        let name = unused(&mut names, &format!("{source}_shape"));
        graph.initializer.push(model::integers_tensor(&name, &dims));
        let node = &mut graph.node[index];
        node.op_type = "Reshape".into();
        node.input = vec![source, name];
        node.attribute.clear();
    }
}

/// The dense tensor of a sparse one, whose indices count all elements, or are one for each dimension.
fn dense(sparse: &SparseTensorProto, weights: &mut usize) -> Result<Array<f32>, SparseFault> {
    use SparseFault::Damaged;
    let dims: Vec<usize> =
        sparse.dims.iter().map(|&d| usize::try_from(d).map_err(|_| Damaged)).collect::<Result<_, _>>()?;
    let count = elements(&dims)?;
    *weights = weights.saturating_add(count);
    if *weights > MAX_WEIGHTS {
        return Err(SparseFault::Weights);
    }
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else { return Err(Damaged) };
    let Constant::Float(values) = tensor::read(values)? else {
        return Err(SparseFault::Integers);
    };
    let Constant::Integer(indices) = tensor::read(indices)? else { return Err(Damaged) };
    let known = indices.known().ok_or(Damaged)?;
    let rank = match *indices.dims {
        [_] => 1,
        [_, rank] if rank == dims.len() => rank,
        _ => return Err(Damaged),
    };
    let sizes = if rank == 1 && indices.dims.len() == 1 { vec![count] } else { dims.clone() };
    if known.len() != values.data.len() * rank {
        return Err(Damaged);
    }
    let mut data = vec![0.0; count];
    for (place, &value) in known.chunks_exact(rank.max(1)).zip(&values.data) {
        let mut at = 0;
        for (&index, &size) in place.iter().zip(&sizes) {
            let index = usize::try_from(index).ok().filter(|&index| index < size).ok_or(Damaged)?;
            at = at * size + index;
        }
        data[at] = value;
    }
    Ok(Array { dims, data })
}

/// Of a network of N pictures, N above 1, makes one of a single picture: shapes that begin with N begin
/// with 1.
fn make_single(graph: &mut GraphProto) {
    let stored: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut pictures = None;
    for input in &graph.input {
        let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            continue;
        };
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        if let ([first, _, _, _], true) = (dims, !stored.contains(input.name.as_str()))
            && let Some(DimensionValue::DimValue(count)) = first.value
        {
            pictures = pictures.or((count > 1).then_some(count));
        }
    }
    let Some(pictures) = pictures else { return };
    let constants = constants(graph);
    let mut names = names(graph);
    // Shapes that begin with the number of pictures, and what stands for each.
    let mut singles: BTreeMap<String, (String, Vec<i64>)> = BTreeMap::new();
    let mut changed: Vec<(usize, usize, String)> = vec![];
    for (index, node) in graph.node.iter().enumerate() {
        let position = match node.op_type.as_str() {
            "Reshape" | "Expand" => 1,
            "Resize" => 3,
            _ => continue,
        };
        let Some(name) = node.input.get(position).filter(|name| !name.is_empty()) else { continue };
        if let Some((single, _)) = singles.get(name) {
            changed.push((index, position, single.clone()));
            continue;
        }
        let Some(Ok(Constant::Integer(shape))) =
            constants.get(name.as_str()).map(|tensor| tensor::read(tensor))
        else {
            continue;
        };
        let Some(mut values) = shape.known().filter(|values| values.len() > 1 && values[0] == pictures)
        else {
            continue;
        };
        values[0] = 1;
        let single = unused(&mut names, &format!("{name}_single"));
        changed.push((index, position, single.clone()));
        singles.insert(name.clone(), (single, values));
    }
    for (index, position, single) in changed {
        graph.node[index].input[position] = single;
    }
    let made = singles.into_values().map(|(single, values)| model::integers_tensor(&single, &values));
    graph.initializer.extend(made);
    for input in &mut graph.input {
        let Some(TypeValue::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
            continue;
        };
        let dims = tensor.shape.as_mut().map(|shape| shape.dim.as_mut_slice());
        if let Some([first, _, _, _]) = dims
            && first.value == Some(DimensionValue::DimValue(pictures))
        {
            first.value = Some(DimensionValue::DimValue(1));
        }
    }
    log::info!("the network is for {pictures} pictures at a time; one for a single picture is made of it");
}
