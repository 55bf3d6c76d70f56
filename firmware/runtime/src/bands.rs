//! Groups of layers that run band by band: some rows of the first, as many of the next as these allow, and so
//! on, and again. What passes between them stays in the caches, and nothing is computed twice.

use std::ops::Range;

use resight_kernels::CacheSizes;
use tract_nnef::internal::DatumType;

use crate::arena::Piece;
use crate::layer::PackedLayer;
use crate::tensors::TensorFact;

/// A layer of a program as bands see it.
pub(crate) struct Link<'a> {
    pub(crate) layer: &'a dyn PackedLayer,
    /// Values that it reads.
    pub(crate) inputs: &'a [usize],
    /// Bytes of weights.
    pub(crate) weights: usize,
    /// The value that it writes.
    pub(crate) output: usize,
}

/// One run of a layer: some rows of its output, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) step: usize,
    /// None for the whole layer.
    pub(crate) rows: Option<Range<usize>>,
}

/// What makes the runs of a program of its packed layers and its values.
pub(crate) type Scheduling<'s> = &'s dyn Fn(&[Link<'_>], &[TensorFact]) -> Vec<Job>;

/// Rows of a band in the smallest image of a group. With fewer, Winograd's weights are transformed more often, and
/// there is too little work for several threads.
const BAND_ROWS: usize = 8;

/// The runs of a program with one thread, in their order. Where there is a third level, or several threads,
/// each with scratch memory of its own, bands were no gain: docs/kernels.md has the figures.
pub(crate) fn schedule(links: &[Link<'_>], facts: &[TensorFact], caches: CacheSizes) -> Vec<Job> {
    let chains = Chains { links, facts, budget: caches.l2 / 8 * 7 };
    let whole = whole_layers(links);
    if caches.l3 > 0 || chains.peak(&whole) <= chains.budget {
        return whole;
    }
    let mut jobs = vec![];
    let mut step = 0;
    while step < links.len() {
        if let Some((group, bands)) = chains.longest(step) {
            step = group.end;
            jobs.extend(bands);
        } else {
            jobs.push(Job { step, rows: None });
            step += 1;
        }
    }
    jobs
}

/// One run of each layer.
pub(crate) fn whole_layers(links: &[Link<'_>]) -> Vec<Job> {
    (0..links.len()).map(|step| Job { step, rows: None }).collect()
}

struct Chains<'a> {
    links: &'a [Link<'a>],
    facts: &'a [TensorFact],
    /// What of the second level the tensors, the weights and the scratch memory of a group may take.
    budget: usize,
}

impl Chains<'_> {
    /// The longest group that starts with this step and whose bands stay in the caches, if whole layers would
    /// not.
    fn longest(&self, first: usize) -> Option<(Range<usize>, Vec<Job>)> {
        let mut longest = None;
        let mut weights = 0;
        for end in first + 1..=self.links.len() {
            weights += self.links[end - 1].weights;
            let last = &self.links[end - 1];
            if weights > self.budget || height(&self.facts[last.output]).is_none() {
                break;
            }
            if last.layer.band_input(0..1).is_none() {
                break;
            }
            let group = first..end;
            let rows = |step: usize| height(&self.facts[self.links[step].output]).unwrap_or(1);
            let passes = group.clone().map(rows).min().unwrap_or(1) / BAND_ROWS;
            let fits = |passes| {
                let takes = |jobs: Vec<Job>| self.peak(&jobs) + self.scratch(&jobs) + weights;
                self.bands(&group, passes).map(takes).is_some_and(|bytes| bytes <= self.budget)
            };
            if passes > 1 && fits(passes) {
                longest = Some((fits(1), group, passes));
            }
        }
        let (whole, group, passes) = longest?;
        let jobs = self.bands(&group, passes)?;
        (!whole).then_some((group, jobs))
    }

    /// The runs of a group whose first layer is computed in so many passes.
    fn bands(&self, group: &Range<usize>, passes: usize) -> Option<Vec<Job>> {
        let mut done = vec![0; group.len()];
        let mut jobs = vec![];
        for pass in 1..=passes {
            for step in group.clone() {
                let all = height(&self.facts[self.links[step].output])?;
                let start = done[step - group.start];
                let end = self.ready(group, step, start, (all * pass).div_ceil(passes), &done)?;
                if end > start {
                    jobs.push(Job { step, rows: Some(start..end) });
                    done[step - group.start] = end;
                }
            }
        }
        let finished =
            |(step, &rows): (usize, &usize)| Some(rows) == height(&self.facts[self.links[step].output]);
        group.clone().zip(&done).all(finished).then_some(jobs)
    }

    /// Up to which row of its output a step can go on; as far as `goal` where it waits for no other of its
    /// group.
    fn ready(
        &self,
        group: &Range<usize>,
        step: usize,
        start: usize,
        goal: usize,
        done: &[usize],
    ) -> Option<usize> {
        let link = &self.links[step];
        let all = height(&self.facts[link.output])?;
        // The output of step `i` is value `i + 1`.
        let rows_done = |value: usize| {
            let producer = value.checked_sub(1).filter(|producer| group.contains(producer))?;
            Some((done[producer - group.start], height(&self.facts[value])?))
        };
        let waits = link.inputs.iter().any(|&value| rows_done(value).is_some());
        let mut end = if waits { all } else { goal };
        for &value in link.inputs {
            let Some((rows, of)) = rows_done(value) else { continue };
            while end > start && rows < of && self.rows_read(link, value, &(start..end))?.end > rows {
                end -= 1;
            }
        }
        let unit = link.layer.row_unit();
        if end < all {
            end -= end % unit;
            // What is left in the end is no less than a kernel with a unit takes.
            if unit > 1 && all - end < 2 {
                end -= unit.min(end);
            }
        }
        Some(end.max(start))
    }

    /// The rows of an input that rows of the output take.
    fn rows_read(&self, link: &Link<'_>, value: usize, rows: &Range<usize>) -> Option<Range<usize>> {
        if link.inputs[0] == value {
            return link.layer.band_input(rows.clone());
        }
        let (input, output) = (&self.facts[value], &self.facts[link.output]);
        Some(if input.shape == output.shape { rows.clone() } else { 0..height(input)? })
    }

    /// The most scratch memory of the first run of each layer.
    fn scratch(&self, jobs: &[Job]) -> usize {
        let mut seen = vec![false; self.links.len()];
        let first = jobs.iter().filter(|job| !std::mem::replace(&mut seen[job.step], true));
        let bytes = |job: &Job| {
            let band = self.links[job.step].layer.band(job.rows.clone()?)?;
            Some(band.scratch_len(1))
        };
        first.filter_map(bytes).max().unwrap_or(0)
    }

    /// The most bytes that are needed at a time between the first use of a row and its last, in a group.
    fn peak(&self, jobs: &[Job]) -> usize {
        let mut changes = vec![0isize; jobs.len() + 1];
        for uses in uses(self.links, self.facts, jobs) {
            for piece in uses {
                changes[piece.defined] += piece.bytes.len() as isize;
                changes[piece.last_use + 1] -= piece.bytes.len() as isize;
            }
        }
        let mut now = 0;
        let sums = changes.iter().map(|change| {
            now += change;
            now
        });
        sums.max().unwrap_or(0) as usize
    }
}

/// Rows of an image; none of what is not one.
fn height(fact: &TensorFact) -> Option<usize> {
    match (fact.datum_type, &*fact.shape) {
        (DatumType::I8, &[1, height, _, _]) => Some(height),
        _ => None,
    }
}

/// The rows of each value that a job reads: all, or some of an image.
pub(crate) fn reads(
    links: &[Link<'_>],
    facts: &[TensorFact],
    job: &Job,
) -> Vec<(usize, Option<Range<usize>>)> {
    let link = &links[job.step];
    let chains = Chains { links, facts, budget: 0 };
    let read = |&value: &usize| {
        let rows = job.rows.as_ref().and_then(|rows| chains.rows_read(link, value, rows));
        (value, rows.filter(|_| height(&facts[value]).is_some()))
    };
    link.inputs.iter().map(read).collect()
}

/// The pieces of each value that are used together: from the job that uses them first to that which uses them
/// last, by number.
pub(crate) fn uses(links: &[Link<'_>], facts: &[TensorFact], jobs: &[Job]) -> Vec<Vec<Piece>> {
    let rows = |fact: &TensorFact| height(fact).unwrap_or(1);
    let mut used: Vec<Vec<Option<(usize, usize)>>> =
        facts.iter().map(|fact| vec![None; rows(fact)]).collect();
    for (number, job) in jobs.iter().enumerate() {
        let written = (links[job.step].output, job.rows.clone());
        for (value, rows) in reads(links, facts, job).into_iter().chain([written]) {
            let all = 0..used[value].len();
            for row in &mut used[value][rows.unwrap_or(all)] {
                *row = Some((row.map_or(number, |(first, _)| first), number));
            }
        }
    }
    let pieces = |(fact, used): (&TensorFact, Vec<Option<(usize, usize)>>)| {
        let row_bytes = fact.bytes() / used.len();
        let mut pieces: Vec<Piece> = vec![];
        for (row, span) in used.into_iter().enumerate() {
            let Some((defined, last_use)) = span else { continue };
            let bytes = row * row_bytes..(row + 1) * row_bytes;
            match pieces.last_mut() {
                Some(last)
                    if (last.defined, last.last_use, last.bytes.end) == (defined, last_use, bytes.start) =>
                {
                    last.bytes.end = bytes.end;
                }
                _ => pieces.push(Piece { bytes, defined, last_use }),
            }
        }
        pieces
    };
    facts.iter().zip(used).map(pieces).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use resight_fixtures::Random;
    use resight_kernels::{Isa, Parallel, Sequential};
    use tract_nnef::internal::*;

    use super::*;
    use crate::layers::{Convolution, MaxPool};
    use crate::{Layers, Program, Quantisation, Target};

    struct Threads(usize);

    impl Parallel for Threads {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
            thread::scope(|scope| {
                for part in 0..parts {
                    scope.spawn(move || task(part));
                }
            });
        }
    }

    fn tensor<T: Datum + Copy>(shape: &[usize], values: &[T]) -> Arc<Tensor> {
        Arc::new(Tensor::from_shape(shape, values).unwrap())
    }

    /// `[inputs, outputs]`, `[kernel, stride]`.
    fn convolution(
        random: &mut Random,
        [inputs, outputs]: [usize; 2],
        [kernel, stride]: [usize; 2],
        residual: bool,
    ) -> Box<dyn TypedOp> {
        let depth = kernel * kernel * inputs;
        // Small enough for Winograd's algorithm to be exact.
        let weights: Vec<i8> = random.weights(outputs * depth).iter().map(|weight| weight / 4).collect();
        Box::new(Convolution {
            weights: tensor(&[outputs, kernel, kernel, inputs], &weights),
            bias: tensor(&[outputs], &vec![100; outputs]),
            // Brings sums of `depth` random products, times 8, into the range of int8.
            multiplier: tensor(
                &[outputs],
                &vec![(0.9 / (depth as f64).sqrt() * 2147483648.0) as i32; outputs],
            ),
            padding_value: tensor(&[inputs], &random.weights(inputs)),
            shift: 3,
            residual_multiplier: residual.then_some(150),
            stride: [stride; 2],
            padding: [kernel / 2; 4],
            dilation: [1, 1],
            groups: 1,
            output: Quantisation { scale: 0.1, zero_point: 3 },
        })
    }

    /// A stem, a pool, and three bottlenecks, of which the first has a shortcut and the last a stride; the
    /// second's input is used once more, so that nothing may take its place.
    fn network([height, width]: [usize; 2]) -> TypedModel {
        let mut model = TypedModel::default();
        let image = model.add_source("image", DatumType::I8.fact([1, height, width, 3])).unwrap();
        let random = &mut Random::new(3);
        let mut count = 0;
        let mut add = |model: &mut TypedModel, op: Box<dyn TypedOp>, inputs: &[OutletId]| {
            count += 1;
            model.wire_node(format!("{count}"), op, inputs).unwrap()[0]
        };
        let stem = add(&mut model, convolution(random, [3, 16], [7, 2], false), &[image]);
        let pool = MaxPool { kernel: [3, 3], stride: [2, 2], padding: [1; 4] };
        let pool = add(&mut model, Box::new(pool), &[stem]);
        let mut last = pool;
        for (block, stride) in [1, 1, 2].into_iter().enumerate() {
            let inputs = if block == 0 { 16 } else { 64 };
            let reduce = add(&mut model, convolution(random, [inputs, 16], [1, 1], false), &[last]);
            let middle = add(&mut model, convolution(random, [16, 16], [3, stride], false), &[reduce]);
            last = if block == 1 {
                add(&mut model, convolution(random, [16, 64], [1, 1], true), &[middle, last])
            } else {
                let expand = add(&mut model, convolution(random, [16, 64], [1, 1], false), &[middle]);
                add(&mut model, convolution(random, [inputs, 64], [1, stride], true), &[last, expand])
            };
        }
        model.select_output_outlets(&[last, pool]).unwrap();
        model
    }

    fn outputs(program: &mut Program, parallel: &dyn Parallel, input: &[i8]) -> Vec<Vec<u8>> {
        let outputs = program.run(parallel, input).unwrap();
        outputs.iter().map(|output| output.bytes.to_vec()).collect()
    }

    fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    #[test]
    fn bands_of_any_height_give_what_whole_layers_give() {
        for size in [[61, 47], [64, 64], [97, 33]] {
            let model = network(size);
            let input = Random::new(9).activations(size[0] * size[1] * 3);
            let mut whole = Program::compile(&model, &Layers::default(), &Target::reference()).unwrap();
            let expected = outputs(&mut whole, &Sequential, &input);
            assert!(expected.iter().all(|output| output.windows(2).any(|pair| pair[0] != pair[1])));
            for isa in available() {
                for threads in 1..=4 {
                    let target = Target::reference().with_isa(isa).with_threads(threads);
                    for passes in [1, 2, 3, 5, size[0] / 2 + 1] {
                        let mut program =
                            Program::compile_jobs(&model, &Layers::default(), &target, &|links, facts| {
                                let chains = Chains { links, facts, budget: 0 };
                                chains.bands(&(0..links.len()), passes).expect("bands of all layers")
                            })
                            .unwrap();
                        let found = outputs(&mut program, &Threads(threads), &input);
                        assert!(found == expected, "{size:?}, {isa}, {threads} threads, {passes} passes");
                        let error = program.run_observed(&Sequential, &input, |_, _| ()).map(|_| ());
                        assert!(error.is_err() == (passes > 1), "{passes} passes: {error:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn caches_choose_what_runs_in_bands() {
        let model = network([224, 224]);
        let runs = |caches| {
            let target = Target { caches, bands: true, ..Target::reference() };
            let program = Program::compile(&model, &Layers::default(), &target).unwrap();
            (program.runs(), program.working_bytes())
        };
        let large = CacheSizes { l1d: 32 << 10, l2: 1 << 20, l2_cores: 1, l3: 32 << 20 };
        let small = CacheSizes { l1d: 32 << 10, l2: 256 << 10, l2_cores: 4, l3: 0 };
        let ((whole, all), (bands, less)) = (runs(large), runs(small));
        assert_eq!(whole, 13);
        assert!(bands > whole && less < all, "{bands} runs, {less} bytes instead of {all}");
        // Nothing of a network stays in so little.
        assert_eq!(runs(CacheSizes { l2: 1 << 10, ..small }).0, 13);
    }
}
