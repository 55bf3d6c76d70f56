//! What files have besides the network, made plain before it is read: sparse initialisers become dense ones,
//! and a network of a fixed number of pictures one of a single picture.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimensionValue;
use tract_onnx::pb::type_proto::Value as TypeValue;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto};

use super::array::Array;
use super::error::printable;
use super::limits::{MAX_WEIGHTS, elements};
use super::model;
use super::tensor::{self, Constant};

/// Makes the graph plain. A second time it changes nothing.
pub(super) fn make_plain(graph: &mut GraphProto) -> Result<(), String> {
    let mut weights = 0usize;
    for sparse in std::mem::take(&mut graph.sparse_initializer) {
        let name = sparse.values.as_ref().map_or("", |values| &values.name).to_owned();
        let dense = dense(&sparse, &mut weights)
            .map_err(|cause| format!("the sparse initialiser `{}` {cause}", printable(&name)))?;
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
    Ok(())
}

/// The dense tensor of a sparse one, whose indices count all elements, or are one for each dimension.
fn dense(sparse: &SparseTensorProto, weights: &mut usize) -> Result<Array<f32>, String> {
    let damaged = || "is damaged: its values, indices and dimensions do not fit; export it again".to_owned();
    let dims: Vec<usize> =
        sparse.dims.iter().map(|&d| usize::try_from(d).map_err(|_| damaged())).collect::<Result<_, _>>()?;
    let count = elements(&dims)?;
    *weights = weights.saturating_add(count);
    if *weights > MAX_WEIGHTS {
        return Err(format!(
            "is one of those with more than {MAX_WEIGHTS} weights together; use a smaller network"
        ));
    }
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else { return Err(damaged()) };
    let Constant::Float(values) = tensor::read(values)? else {
        return Err("holds integers where weights are needed; export the f32 model".into());
    };
    let Constant::Integer(indices) = tensor::read(indices)? else { return Err(damaged()) };
    let known = indices.known().ok_or_else(damaged)?;
    let rank = match *indices.dims {
        [_] => 1,
        [_, rank] if rank == dims.len() => rank,
        _ => return Err(damaged()),
    };
    let sizes = if rank == 1 && indices.dims.len() == 1 { vec![count] } else { dims.clone() };
    if known.len() != values.data.len() * rank {
        return Err(damaged());
    }
    let mut data = vec![0.0; count];
    for (place, &value) in known.chunks_exact(rank.max(1)).zip(&values.data) {
        let mut at = 0;
        for (&index, &size) in place.iter().zip(&sizes) {
            let index = usize::try_from(index).ok().filter(|&index| index < size).ok_or_else(damaged)?;
            at = at * size + index;
        }
        data[at] = value;
    }
    Ok(Array { dims, data })
}

/// Of a network of N pictures, N above 1, makes one of a single picture: shapes that begin with N begin
/// with 1.
fn make_single(graph: &mut GraphProto) {
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let is_image = |name: &str| !constants.contains(name);
    let mut pictures = None;
    for input in &graph.input {
        let Some(TypeValue::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
            continue;
        };
        let dims = tensor.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
        if let ([first, _, _, _], true) = (dims, is_image(&input.name))
            && let Some(DimensionValue::DimValue(count)) = first.value
        {
            pictures = pictures.or((count > 1).then_some(count));
        }
    }
    let Some(pictures) = pictures else { return };
    let mut singles: HashMap<String, Option<String>> = HashMap::new();
    for index in 0..graph.node.len() {
        let position = match graph.node[index].op_type.as_str() {
            "Reshape" | "Expand" => 1,
            "Resize" => 3,
            _ => continue,
        };
        let Some(name) = graph.node[index].input.get(position).cloned().filter(|name| !name.is_empty())
        else {
            continue;
        };
        let single = match singles.get(&name) {
            Some(single) => single.clone(),
            None => single_shape(graph, &name, pictures),
        };
        if let Some(single) = &single {
            graph.node[index].input[position].clone_from(single);
        }
        singles.insert(name, single);
    }
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

/// The name of a new constant like the constant shape `name`, which begins with `pictures`, that begins
/// with 1.
fn single_shape(graph: &mut GraphProto, name: &str, pictures: i64) -> Option<String> {
    let value = |node: &NodeProto| {
        let value = node.attribute.iter().find(|attribute| attribute.name == "value")?;
        value.t.clone()
    };
    let made = || {
        let is_it = |node: &&NodeProto| {
            node.op_type == "Constant" && node.output.first().is_some_and(|output| output == name)
        };
        graph.node.iter().find(is_it).and_then(value)
    };
    let found: TensorProto =
        graph.initializer.iter().find(|tensor| tensor.name == name).cloned().or_else(made)?;
    let Ok(Constant::Integer(shape)) = tensor::read(&found) else { return None };
    let mut values = shape.known().filter(|values| values.len() > 1 && values[0] == pictures)?;
    values[0] = 1;
    let taken: HashSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .chain(graph.node.iter().flat_map(|node| node.output.iter().map(String::as_str)))
        .collect();
    let mut single = format!("{name}_single");
    while taken.contains(single.as_str()) {
        single.push('_');
    }
    graph.initializer.push(model::integers_tensor(&single, &values));
    Some(single)
}
