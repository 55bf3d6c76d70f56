//! A graph as steps over values: what is wired to what, what is packed, where each value lies.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::konst::Const;
use tract_nnef::tract_core::ops::source::TypedSource;

use crate::arena::{Lifetime, Piece, place};
use crate::bands::{Job, Link, reads, uses};
use crate::joins::{self, Joins, Place};
use crate::layer::{Description, Layer, PackedLayer};
use crate::layers::{Layers, SideBySide};
use crate::target::Target;
use crate::tensors::{Part, TensorFact, Value};

/// A layer, or a band of one, over values.
#[derive(Debug)]
pub(crate) struct Run {
    /// The step of which it is all or a part.
    pub(crate) step: usize,
    pub(crate) layer: Box<dyn PackedLayer>,
    /// The values that it reads.
    pub(crate) inputs: Vec<usize>,
    /// The value that it writes.
    pub(crate) output: usize,
}

/// A graph as steps over values, before anything is packed or placed.
pub(crate) struct Wiring<'a> {
    pub(crate) values: Vec<TensorFact>,
    /// The step that writes each value; the input is there before the first.
    pub(crate) nodes: Vec<Wired<'a>>,
    pub(crate) outputs: Vec<usize>,
}

pub(crate) struct Wired<'a> {
    pub(crate) node: &'a TypedNode,
    pub(crate) layer: &'a dyn Layer,
    pub(crate) inputs: Vec<usize>,
}

impl<'a> Wiring<'a> {
    /// Values are numbered in the order of their definition: the input is 0, the output of step
    /// `i` is `i + 1`.
    pub(crate) fn of(graph: &'a TypedModel, layers: &Layers) -> TractResult<Self> {
        let &[input] = graph.input_outlets()? else { bail!("a network has one input") };
        let fact = TensorFact::of(graph.outlet_fact(input)?)?;
        ensure!(
            matches!((fact.datum_type, &*fact.shape), (DatumType::I8, [1, _, _, _])),
            "`{}` is not an int8 image: {fact:?}",
            graph.node(input.node).name
        );
        let mut numbers = HashMap::from([(input, 0)]);
        let mut wiring = Self { values: vec![fact], nodes: vec![], outputs: vec![] };
        for id in graph.eval_order()? {
            let node = graph.node(id);
            if node.op_is::<TypedSource>() || node.op_is::<Const>() {
                continue;
            }
            let wired = wiring.wire(node, layers, &numbers);
            let (wired, output) =
                wired.with_context(|| format!("node `{}` ({})", node.name, node.op.name()))?;
            numbers.insert(id.into(), wiring.values.len());
            wiring.nodes.push(wired);
            wiring.values.push(output);
        }
        for outlet in graph.output_outlets()? {
            let number = numbers.get(outlet).filter(|&&number| number != 0);
            let node = &graph.node(outlet.node).name;
            wiring
                .outputs
                .push(*number.with_context(|| format!("the output `{node}` is computed by no layer"))?);
        }
        ensure!(!wiring.outputs.is_empty(), "a network has at least one output");
        Ok(wiring)
    }

    fn wire(
        &self,
        node: &'a TypedNode,
        layers: &Layers,
        numbers: &HashMap<OutletId, usize>,
    ) -> TractResult<(Wired<'a>, TensorFact)> {
        let layer = layers.of(node).context("not an int8 operator of resight")?;
        let number = |outlet| numbers.get(outlet).copied().context("an input of it is computed by no layer");
        let inputs: Vec<usize> = node.inputs.iter().map(number).collect::<TractResult<_>>()?;
        let wired = Wired { node, layer, inputs };
        let output = layer.output(&self.inputs(&wired))?;
        ensure!(!output.is_empty(), "its output of shape {:?} is empty", output.shape);
        Ok((wired, output))
    }

    pub(crate) fn inputs(&self, wired: &Wired<'_>) -> Vec<TensorFact> {
        wired.inputs.iter().map(|&value| self.values[value].clone()).collect()
    }

    /// Refuses what no board would finish, before weights are packed and memory is taken.
    pub(crate) fn check_work(&self) -> TractResult<()> {
        let mut work = 0_u64;
        for wired in &self.nodes {
            work = work.saturating_add(wired.layer.work(&self.inputs(wired))?);
        }
        let largest = self.values.iter().map(TensorFact::bytes).max().unwrap_or(0);
        within_limits(work, largest)
    }

    /// What is written where a concatenation has it.
    pub(crate) fn joins(&self) -> Joins {
        let node = |wired: &Wired<'_>| joins::Node {
            inputs: wired.inputs.clone(),
            concatenates: wired.layer.concatenates(),
            takes_strides: wired.layer.takes_strides(),
        };
        let nodes: Vec<joins::Node> = self.nodes.iter().map(node).collect();
        let channels: Vec<usize> = self.values.iter().map(|fact| image_shape(&fact.shape)[2]).collect();
        joins::plan(&nodes, &channels, &self.outputs)
    }

    /// Packs a step, of which the inputs that are in `copies` are left to do if it is a concatenation.
    pub(crate) fn pack(
        &self,
        wired: &Wired<'_>,
        target: &Target,
        copies: &[usize],
    ) -> TractResult<Box<dyn PackedLayer>> {
        let facts = self.inputs(wired);
        if wired.layer.concatenates() {
            return Ok(Box::new(SideBySide::new(target, &facts, copies)?));
        }
        wired.layer.pack(target, &facts)
    }

    /// The steps as bands see them.
    pub(crate) fn links<'b>(
        &'b self,
        steps: &[Description],
        layers: &'b [Box<dyn PackedLayer>],
    ) -> Vec<Link<'b>> {
        let link = |index: usize| Link {
            layer: &*layers[index],
            inputs: &self.nodes[index].inputs,
            weights: steps[index].weight_bytes,
            output: index + 1,
        };
        (0..layers.len()).map(link).collect()
    }

    /// The packed layers, or bands of them, over the values; appends to these the bands that are read and
    /// written.
    pub(crate) fn runs(
        &self,
        steps: &[Description],
        layers: Vec<Box<dyn PackedLayer>>,
        jobs: &[Job],
        values: &mut Vec<Value>,
    ) -> TractResult<Vec<Run>> {
        let links = self.links(steps, &layers);
        let mut bands = vec![];
        for job in jobs {
            let Some(rows) = &job.rows else { continue };
            let layer = links[job.step].layer.band(rows.clone());
            let layer =
                layer.with_context(|| format!("node `{}` has no band", self.nodes[job.step].node.name))?;
            let mut part = |value: usize, rows: Option<Range<usize>>| {
                let Some(rows) = rows else { return value };
                values.push(values[value].rows(rows));
                values.len() - 1
            };
            let read = reads(&links, &self.values, job);
            let inputs = read.into_iter().map(|(value, rows)| part(value, rows)).collect();
            let output = part(job.step + 1, Some(rows.clone()));
            bands.push(Run { step: job.step, layer, inputs, output });
        }
        drop(links);
        let mut bands = bands.into_iter();
        let mut whole = layers.into_iter().enumerate();
        let run = |job: &Job| {
            if job.rows.is_some() {
                return bands.next();
            }
            // Whole layers are in the order of the steps.
            let (step, layer) = whole.find(|(step, _)| *step == job.step)?;
            Some(Run { step, layer, inputs: self.nodes[step].inputs.clone(), output: step + 1 })
        };
        Ok(jobs.iter().filter_map(run).collect())
    }

    /// Places the values in an arena for these jobs; its size is returned too.
    pub(crate) fn place(&self, links: &[Link<'_>], joins: &Joins, jobs: &[Job]) -> (Vec<Value>, usize) {
        let lifetimes = self.lifetimes(links, joins, jobs);
        let of_its_own: Vec<usize> =
            (0..lifetimes.len()).filter(|&value| joins.places[value].is_none()).collect();
        let number = |value: usize| of_its_own.binary_search(&value).ok();
        let placed: Vec<Lifetime> = of_its_own
            .iter()
            .map(|&value| {
                let lifetime = lifetimes[value].clone();
                Lifetime { replaces: lifetime.replaces.and_then(number), ..lifetime }
            })
            .collect();
        let (placed, arena) = place(&placed);
        let mut ranges = vec![0..0; lifetimes.len()];
        for (value, range) in of_its_own.into_iter().zip(placed) {
            ranges[value] = range;
        }
        let value = |(value, fact): (usize, &TensorFact)| {
            let place = joins.places[value];
            let part = place.map(|Place { whole, first }| Part {
                first,
                stride: image_shape(&self.values[whole].shape)[2],
            });
            let range = ranges[place.map_or(value, |place| place.whole)].clone();
            Value { fact: fact.clone(), range, part }
        };
        (self.values.iter().enumerate().map(value).collect(), arena)
    }

    /// When each value lives, if these jobs run. What has parts lives as long as any of them, all of it.
    fn lifetimes(&self, links: &[Link<'_>], joins: &Joins, jobs: &[Job]) -> Vec<Lifetime> {
        let mut pieces = uses(links, &self.values, jobs);
        // The image is there before the first job, outputs stay.
        pieces[0].iter_mut().for_each(|piece| piece.defined = 0);
        for &output in &self.outputs {
            pieces[output].iter_mut().for_each(|piece| piece.last_use = usize::MAX);
        }
        let mut joined = HashSet::new();
        for (value, place) in joins.places.iter().enumerate() {
            let Some(Place { whole, .. }) = *place else { continue };
            joined.extend([value, whole]);
            let part = pieces[value].clone();
            pieces[whole].extend(part);
        }
        for &value in &joined {
            let defined = pieces[value].iter().map(|piece| piece.defined).min().unwrap_or(0);
            let last_use = pieces[value].iter().map(|piece| piece.last_use).max().unwrap_or(defined);
            pieces[value] = vec![Piece { bytes: 0..self.values[value].bytes(), defined, last_use }];
        }
        let lifetime = |(index, pieces): (usize, Vec<Piece>)| {
            let replaces = index.checked_sub(1).and_then(|step| {
                let (layer, inputs) = (links[step].layer, links[step].inputs);
                let value = inputs[layer.overwrites()?];
                let once = inputs.iter().filter(|&&other| other == value).count() == 1;
                let are_whole = !joined.contains(&value) && !joined.contains(&index);
                let is_free = once && are_whole && !self.outputs.contains(&value);
                (is_free && self.values[value] == self.values[index]).then_some(value)
            });
            Lifetime { bytes: self.values[index].bytes(), pieces, replaces }
        };
        pieces.into_iter().enumerate().map(lifetime).collect()
    }
}

/// Most multiplications and comparisons of a network: a ResNet-152 takes 2^33.5 for 224 x 224 pixels, and 2^39 for
/// 1500 x 1500.
const MAX_WORK: u64 = 1 << 41;

/// Largest tensor between layers, in bytes.
const MAX_TENSOR: usize = 256 << 20;

fn within_limits(work: u64, largest: usize) -> TractResult<()> {
    ensure!(work <= MAX_WORK, "{work} multiplications and comparisons; a network of up to {MAX_WORK} is run");
    ensure!(
        largest <= MAX_TENSOR,
        "a tensor of {largest} bytes between its layers; up to {MAX_TENSOR} are taken"
    );
    Ok(())
}

/// `[height, width, channels]` of a shape whose first dimension is the batch; missing ones are 1
/// and surplus ones count as height.
pub(crate) fn image_shape(shape: &[usize]) -> [usize; 3] {
    match shape {
        [] => [1, 1, 1],
        [_, rest @ ..] => match *rest {
            [] => [1, 1, 1],
            [channels] => [1, 1, channels],
            [width, channels] => [1, width, channels],
            [ref height @ .., width, channels] => [height.iter().product(), width, channels],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_TENSOR, MAX_WORK, image_shape, within_limits};

    #[test]
    fn work_without_end_is_refused() {
        within_limits(MAX_WORK, MAX_TENSOR).unwrap();
        let error = within_limits(MAX_WORK + 1, 0).unwrap_err().to_string();
        assert!(error.starts_with("2199023255553 multiplications"), "{error}");
        let error = within_limits(0, MAX_TENSOR + 1).unwrap_err().to_string();
        assert!(error.starts_with("a tensor of 268435457 bytes"), "{error}");
    }

    #[test]
    fn shapes_are_shown_as_images() {
        assert_eq!(image_shape(&[1, 5, 6, 7]), [5, 6, 7]);
        assert_eq!(image_shape(&[1, 7]), [1, 1, 7]);
        assert_eq!(image_shape(&[1, 6, 7]), [1, 6, 7]);
        assert_eq!(image_shape(&[1, 2, 5, 6, 7]), [10, 6, 7]);
        assert_eq!((image_shape(&[1]), image_shape(&[])), ([1, 1, 1], [1, 1, 1]));
    }
}
