//! Names for directions: a network whose classes are what vectors are alike to.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use resight_kernels::Sequential;
use resight_model_file::{Activation, Golden, Labels, Task};
use resight_runtime::layers::Similarity;
use resight_runtime::tract::SpecialOps as _;
use resight_runtime::{Classes, Head, Model, ModelParts, Program, Target, normalise, tract};
use serde::Serialize;

use super::{Grouped, VectorModel, product};
use crate::quantise::Progress;

/// Most references of a model file: each is compared with every picture.
const MAX_REFERENCES: usize = 10_000;

/// What a name was given to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    /// The name: that of the folder.
    pub name: String,
    /// Its photographs.
    pub photographs: usize,
    /// The lowest cosine of one of them with the mean of the others; none of a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<f64>,
    /// The highest cosine of a photograph of another name with it; none where there is no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<f64>,
}

/// A network with a class for each name.
#[derive(Debug)]
pub struct References {
    /// What each name was given to, in the order of the classes.
    pub names: Vec<Named>,
    graph: tract::TypedModel,
    golden: Vec<Golden>,
    labels: Labels,
}

impl References {
    /// Gives the directions of the pictures in each folder of `folder` its name: the mean of their
    /// vectors, each of the length 1.
    ///
    /// # Errors
    /// A network that gives no vectors, a folder without folders of pictures, names that are none.
    pub fn of(
        model: &Arc<Model>,
        folder: &Path,
        strict: bool,
        target: &Target,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let network = VectorModel::int8(model.clone(), target)?;
        let grouped = Grouped::read(folder, strict, progress)?;
        ensure!(
            grouped.names.len() <= MAX_REFERENCES,
            "{}: {} names; at most {MAX_REFERENCES} are possible",
            folder.display(),
            grouped.names.len()
        );
        let text: String = grouped.names.iter().map(|name| format!("{name}\n")).collect();
        let labels = Labels::parse(&folder.display().to_string(), text.as_bytes())?;
        let vectors = network.directions(&grouped.pictures, Path::new(model.file()), progress)?;
        ensure!(
            vectors.iter().flatten().all(|value| value.is_finite()),
            "{}: the network gives numbers that are none",
            model.file()
        );
        let (references, names) = means(&grouped, &vectors);
        let graph = with_references(model, &references).with_context(|| model.file().to_owned())?;
        let mut program = Program::compile(&graph, model.layers(), target)?;
        let golden = |before: &Golden| -> Result<Golden> {
            let logits = Classes::logits(program.run(&Sequential, &before.input)?)?.to_vec();
            Ok(Golden::classes(before.input.clone(), logits))
        };
        let golden = model.golden().iter().map(golden).collect::<Result<_>>()?;
        Ok(Self { names, graph, golden, labels })
    }

    /// Writes the model file.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, output: &Path, model: &Model) -> Result<()> {
        let mut report = model.report().clone();
        if !report.is_object() {
            report = serde_json::json!({});
        }
        report["references"] = serde_json::to_value(&self.names)?;
        let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parts = ModelParts {
            name: name.trim_end_matches(".tar").trim_end_matches(".resight"),
            layers: model.layers(),
            graph: &self.graph,
            task: Task::Classes { activation: Activation::Sigmoid },
            labels: &self.labels,
            preprocessing: model.preprocessing(),
            provenance: model.provenance(),
            report: &report,
            golden: &self.golden,
        };
        Ok(parts.write(output)?)
    }
}

/// The mean direction of each group, and how alike its own and other pictures are to it.
fn means(grouped: &Grouped, vectors: &[Vec<f32>]) -> (Vec<Vec<f32>>, Vec<Named>) {
    let numbers = vectors.first().map_or(0, Vec::len);
    let own = |group: usize| {
        vectors.iter().zip(&grouped.groups).filter(move |(_, own)| **own == group).map(|(vector, _)| vector)
    };
    let sum = |group: usize| {
        let mut sum = vec![0.0_f64; numbers];
        own(group).for_each(|v| sum.iter_mut().zip(v).for_each(|(sum, &value)| *sum += f64::from(value)));
        sum
    };
    let direction = |sum: &[f64]| {
        let mut vector: Vec<f32> = sum.iter().map(|&value| value as f32).collect();
        normalise(&mut vector);
        vector
    };
    let one = |(group, name): (usize, &String)| {
        let sum = sum(group);
        let reference = direction(&sum);
        let photographs = own(group).count();
        let without = |vector: &Vec<f32>| {
            let rest: Vec<f64> = sum.iter().zip(vector).map(|(sum, &value)| sum - f64::from(value)).collect();
            product(&direction(&rest), vector)
        };
        let others = vectors.iter().zip(&grouped.groups).filter(|(_, other)| **other != group);
        let named = Named {
            name: name.clone(),
            photographs,
            own: (photographs > 1).then(|| own(group).map(without).fold(1.0, f64::min)),
            others: others.map(|(vector, _)| product(&reference, vector)).reduce(f64::max),
        };
        (reference, named)
    };
    grouped.names.iter().enumerate().map(one).unzip()
}

/// The network with a layer that compares its vector with the references.
fn with_references(model: &Model, references: &[Vec<f32>]) -> tract::TractResult<tract::TypedModel> {
    let Head::Embedding(head) = model.head() else { tract::bail!("it gives no vectors") };
    let mut graph = model.graph().clone();
    let output = graph.output_outlets()?.to_vec();
    let references = tract::Tensor::from_shape(&[references.len(), head.numbers()], &references.concat())?;
    let mut name = "similarity".to_owned();
    while graph.nodes.iter().any(|node| node.name == name) {
        name.push('_');
    }
    let layer = Similarity { references: Arc::new(references) };
    let logits = graph.wire_node(name, layer, &output)?;
    graph.select_output_outlets(&logits)?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_name_stands_for_the_mean_direction() {
        let grouped = Grouped {
            names: vec!["east".into(), "north".into()],
            pictures: vec![PathBuf::new(); 3],
            groups: vec![0, 0, 1],
        };
        let vectors = vec![vec![1.0, 0.0], vec![0.8, 0.6], vec![0.0, 1.0]];
        let (references, names) = means(&grouped, &vectors);
        let expected = [0.948_683_3, 0.316_227_77];
        assert!(references[0].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{references:?}");
        assert_eq!(references[1], [0.0, 1.0]);
        assert_eq!((names[0].photographs, names[1].photographs), (2, 1));
        assert!((names[0].own.unwrap() - 0.8).abs() < 1e-6, "{names:?}");
        assert_eq!(names[1].own, None);
        assert!((names[0].others.unwrap() - 0.316_227_77).abs() < 1e-6, "{names:?}");
        assert!((names[1].others.unwrap() - 0.6).abs() < 1e-6, "{names:?}");
    }
}
