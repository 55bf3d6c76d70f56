//! Learning classes from features: cross-validation, calibration, figures, and the weights.

use rayon::prelude::*;

use crate::error::TeachError;
use crate::features::{Features, Scaling};
use crate::figures::{ClassFigures, Figures, UnknownFigures};
use crate::folds::folds;
use crate::memory::{Memory, nearest_of};
use crate::random::Random;
use crate::solver::{Exactness, Examples, Weights, logits, softmax};
use crate::statistics::{Share, lower_quantile};

/// Strengths of regularisation that are tried, the strongest first: each starts from the last one's
/// weights.
const STRENGTHS: [f64; 6] = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003];

/// Parts of the photographs that the learning curve is made of.
const PARTS: [f64; 2] = [0.25, 0.5];

/// Below this familiar pictures would be rejected only because nothing is known of them.
const FEW_FOR_UNKNOWN: usize = 2;

/// What is learnt from.
#[derive(Debug, Clone, Copy)]
pub struct Lesson<'a> {
    /// A row for each view of each photograph: those of the first photograph first, the photograph
    /// itself before its other views.
    pub features: &'a Features,
    /// Views of each photograph.
    pub views: usize,
    /// The class of each photograph.
    pub classes: &'a [usize],
    /// The names of the classes.
    pub names: &'a [String],
    /// The group of each photograph, from 0: no group is both learnt from and tested with.
    pub groups: &'a [usize],
    /// The feature that stands for the real number 0.
    pub zero: i32,
    /// The largest magnitude of a feature.
    pub limit: i16,
}

/// How it is learnt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Most folds of the cross-validation.
    pub folds: usize,
    /// What the dealing of photographs to folds follows from.
    pub seed: u64,
    /// The wanted share of familiar pictures that are taken for unknown; without it there is no such
    /// class.
    pub unknown: Option<f64>,
    /// The wanted share of other classes' pictures above a class's threshold.
    pub false_alarms: f64,
    /// Most taught pictures that new ones are compared with.
    pub memory: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { folds: 5, seed: 1, unknown: Some(0.01), false_alarms: 0.01, memory: 1000 }
    }
}

/// What was found of one photograph when it was not learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldOut {
    /// The probability of each class.
    pub probabilities: Vec<f64>,
    /// The mean cosine to the nearest photographs of other groups.
    pub familiarity: Option<f64>,
}

impl HeldOut {
    /// The most probable class.
    pub fn best(&self) -> usize {
        best(&self.probabilities)
    }
}

/// What was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Learnt {
    /// `[class][feature]`, for features as they are.
    pub weights: Vec<f64>,
    /// `[class]`.
    pub bias: Vec<f64>,
    /// What is familiar, if that is wanted.
    pub memory: Option<Memory>,
    /// How well it works.
    pub figures: Figures,
    /// Of each photograph.
    pub held_out: Vec<HeldOut>,
    /// The fold of each photograph.
    pub folds: Vec<usize>,
}

fn best(values: &[f64]) -> usize {
    let better = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
    (0..values.len()).fold(0, better)
}

/// Learns the classes of a lesson.
///
/// # Errors
/// Fewer than two classes, or a class with too few groups of photographs to test itself with.
pub fn learn(
    lesson: &Lesson<'_>,
    settings: &Settings,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Learnt, TeachError> {
    let course = Course::new(lesson, settings)?;
    let steps = STRENGTHS.len() + PARTS.len() + 1;
    let mut tried = course.strengths(&|done| progress(done, steps));
    let chosen = (0..tried.len()).min_by(|&a, &b| tried[a].loss.total_cmp(&tried[b].loss)).unwrap_or(0);
    let Tried { logits: held_out, .. } = tried.swap_remove(chosen);
    let (temperature, loss) = course.calibrate(&held_out);
    let strength = STRENGTHS[chosen];
    let curve: Vec<Curve> = PARTS
        .iter()
        .enumerate()
        .map(|(index, &part)| {
            progress(STRENGTHS.len() + index, steps);
            course.part(part, strength)
        })
        .collect();
    let (scaled, scaling) = course.train(&course.all(), strength, Exactness::Kept);
    progress(steps, steps);
    let (mut weights, mut bias) = scaled.unscaled(&scaling);
    weights.iter_mut().chain(&mut bias).for_each(|value| *value /= temperature);

    let memory = course.memory();
    let mut held_out: Vec<HeldOut> = held_out
        .into_iter()
        .map(|mut logits| {
            for logit in &mut logits {
                *logit /= temperature;
            }
            softmax(&mut logits);
            HeldOut { probabilities: logits, familiarity: None }
        })
        .collect();
    let unknown = memory.as_ref().and_then(|memory| course.unknown(memory, &mut held_out));
    let figures = course.figures(&held_out, unknown, strength, temperature, loss, &curve);
    Ok(Learnt {
        weights,
        bias,
        memory: memory.filter(|_| unknown.is_some()),
        figures,
        held_out,
        folds: course.folds,
    })
}

/// Logits of held-out photographs at one strength.
struct Tried {
    logits: Vec<Vec<f64>>,
    /// At the temperature 1: what is held back too much would be mended by a low temperature in its
    /// probabilities, but not in its decisions.
    loss: f64,
}

/// A fold, and what is learnt from all others.
struct Fold {
    photographs: Vec<usize>,
    /// Their rows, without other views.
    tested: Vec<usize>,
    /// Rows that are learnt from.
    rows: Vec<usize>,
    scaling: Scaling,
    /// At the last strength.
    weights: Weights,
}

/// Accuracy with a part of the photographs.
struct Curve {
    part: f64,
    right: Vec<bool>,
}

struct Course<'a> {
    lesson: &'a Lesson<'a>,
    settings: &'a Settings,
    folds: Vec<usize>,
    fold_count: usize,
    /// How much a photograph of each class counts.
    weights: Vec<f64>,
    /// The class of each row.
    row_classes: Vec<usize>,
}

impl<'a> Course<'a> {
    fn new(lesson: &'a Lesson<'a>, settings: &'a Settings) -> Result<Self, TeachError> {
        let count = lesson.names.len();
        if count < 2 {
            return Err(TeachError::Photographs(
                "one class cannot be told from itself: give photographs of at least two".to_owned(),
            ));
        }
        let mut groups_of = vec![std::collections::BTreeSet::new(); count];
        for (&class, &group) in lesson.classes.iter().zip(lesson.groups) {
            groups_of[class].insert(group);
        }
        let fewest = (0..count).min_by_key(|&class| groups_of[class].len()).unwrap_or(0);
        let groups = groups_of[fewest].len();
        if groups < 2 {
            let name = &lesson.names[fewest];
            let photographs = lesson.classes.iter().filter(|class| **class == fewest).count();
            return Err(TeachError::Photographs(format!(
                "{name}: its {photographs} photographs are one group, and one cannot be both learnt from and \
                 tested with: add photographs taken on another occasion"
            )));
        }
        let fold_count = settings.folds.clamp(2, 100).min(groups.max(2));
        let counts: Vec<f64> = (0..count)
            .map(|class| lesson.classes.iter().filter(|other| **other == class).count() as f64)
            .collect();
        let mean = lesson.classes.len() as f64 / count as f64;
        Ok(Self {
            folds: folds(lesson.groups, lesson.classes, fold_count, settings.seed),
            fold_count,
            weights: counts.iter().map(|own| mean / own.max(1.0)).collect(),
            row_classes: lesson
                .classes
                .iter()
                .flat_map(|&class| std::iter::repeat_n(class, lesson.views))
                .collect(),
            lesson,
            settings,
        })
    }

    fn all(&self) -> Vec<usize> {
        (0..self.lesson.classes.len()).collect()
    }

    /// The rows of photographs' views.
    fn rows(&self, photographs: &[usize]) -> Vec<usize> {
        let views = self.lesson.views;
        photographs.iter().flat_map(|&photograph| photograph * views..(photograph + 1) * views).collect()
    }

    /// The row of each photograph itself.
    fn bases(&self, photographs: &[usize]) -> Vec<usize> {
        photographs.iter().map(|&photograph| photograph * self.lesson.views).collect()
    }

    /// Learns from photographs, as exactly as it is worth.
    fn train(&self, photographs: &[usize], strength: f64, exactness: Exactness) -> (Weights, Scaling) {
        let rows = self.rows(photographs);
        let scaling = Scaling::of(self.lesson.features, &rows);
        let start = Weights::zero(self.lesson.names.len(), self.lesson.features.columns());
        (self.examples(&rows, &scaling).solve(strength, exactness, start), scaling)
    }

    fn examples<'b>(&'b self, rows: &'b [usize], scaling: &'b Scaling) -> Examples<'b> {
        Examples {
            features: self.lesson.features,
            rows,
            classes: &self.row_classes,
            count: self.lesson.names.len(),
            weights: &self.weights,
            scaling,
        }
    }

    /// Photographs inside and outside a fold.
    fn split(&self, fold: usize) -> (Vec<usize>, Vec<usize>) {
        self.all().into_iter().partition(|&photograph| self.folds[photograph] == fold)
    }

    /// Cross-validates strengths, until weaker ones are worse.
    fn strengths(&self, progress: &dyn Fn(usize)) -> Vec<Tried> {
        let fold = |fold| {
            let (tested, learnt) = self.split(fold);
            let rows = self.rows(&learnt);
            let scaling = Scaling::of(self.lesson.features, &rows);
            let weights = Weights::zero(self.lesson.names.len(), self.lesson.features.columns());
            Fold { tested: self.bases(&tested), photographs: tested, rows, scaling, weights }
        };
        let mut folds: Vec<Fold> = (0..self.fold_count).into_par_iter().map(fold).collect();
        let mut tried: Vec<Tried> = vec![];
        for strength in STRENGTHS {
            progress(tried.len());
            let found: Vec<Vec<Vec<f64>>> = folds
                .par_iter_mut()
                .map(|fold| {
                    let start = std::mem::take(&mut fold.weights);
                    let examples = self.examples(&fold.rows, &fold.scaling);
                    fold.weights = examples.solve(strength, Exactness::Tested, start);
                    logits(self.lesson.features, &fold.tested, &fold.weights, &fold.scaling)
                })
                .collect();
            let mut logits = vec![vec![]; self.lesson.classes.len()];
            for (fold, found) in folds.iter().zip(found) {
                for (&photograph, row) in fold.photographs.iter().zip(found) {
                    logits[photograph] = row;
                }
            }
            let loss = self.loss(&logits, 1.0);
            let is_worse = tried.last().is_some_and(|last| loss > last.loss);
            tried.push(Tried { logits, loss });
            if is_worse {
                break;
            }
        }
        tried
    }

    /// The mean negative logarithm of the right class's probability at a temperature.
    fn loss(&self, logits: &[Vec<f64>], temperature: f64) -> f64 {
        let (mut loss, mut total) = (0.0, 0.0);
        for (row, &class) in logits.iter().zip(self.lesson.classes) {
            let mut scaled: Vec<f64> = row.iter().map(|logit| logit / temperature).collect();
            let right = scaled[class];
            let weight = self.weights[class];
            loss += weight * (softmax(&mut scaled) - right);
            total += weight;
        }
        loss / total
    }

    /// The temperature at which probabilities of the logits are worth most, and the loss then.
    fn calibrate(&self, logits: &[Vec<f64>]) -> (f64, f64) {
        let loss = |exponent: f64| self.loss(logits, libm::exp(exponent));
        // The golden section: the loss has one minimum.
        let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
        let (mut low, mut high) = (-3.0, 3.0);
        for _ in 0..40 {
            let (left, right) = (high - golden * (high - low), low + golden * (high - low));
            if loss(left) <= loss(right) { high = right } else { low = left }
        }
        let middle = f64::midpoint(low, high);
        (libm::exp(middle), loss(middle))
    }

    /// Cross-validates learning from a part of the groups.
    fn part(&self, part: f64, strength: f64) -> Curve {
        let found: Vec<Vec<(usize, bool)>> = (0..self.fold_count)
            .into_par_iter()
            .map(|fold| {
                let (tested, learnt) = self.split(fold);
                let fewer = self.fewer(&learnt, part, fold as u64);
                let (weights, scaling) = self.train(&fewer, strength, Exactness::Tested);
                let rows = logits(self.lesson.features, &self.bases(&tested), &weights, &scaling);
                let right = |(&photograph, row): (&usize, &Vec<f64>)| {
                    (photograph, best(row) == self.lesson.classes[photograph])
                };
                tested.iter().zip(&rows).map(right).collect()
            })
            .collect();
        let mut right = vec![false; self.lesson.classes.len()];
        found.into_iter().flatten().for_each(|(photograph, hit)| right[photograph] = hit);
        Curve { part, right }
    }

    /// A part of the photographs: whole groups, of each class as near to the part as they go, one
    /// group at least.
    fn fewer(&self, photographs: &[usize], part: f64, salt: u64) -> Vec<usize> {
        let mut random = Random::new(self.settings.seed, &[0xc0de, salt]);
        let mut order = photographs.to_vec();
        random.shuffle(&mut order);
        let mut taken = std::collections::BTreeSet::new();
        for class in 0..self.lesson.names.len() {
            let own: Vec<usize> =
                order.iter().copied().filter(|&one| self.lesson.classes[one] == class).collect();
            let wanted = ((own.len() as f64 * part).ceil() as usize).max(1);
            let mut count = 0;
            for &photograph in &own {
                let group = self.lesson.groups[photograph];
                if count >= wanted {
                    break;
                }
                if taken.insert(group) {
                    count += own.iter().filter(|&&other| self.lesson.groups[other] == group).count();
                }
            }
        }
        photographs.iter().copied().filter(|&one| taken.contains(&self.lesson.groups[one])).collect()
    }

    fn memory(&self) -> Option<Memory> {
        self.settings.unknown?;
        let Lesson { features, zero, limit, .. } = *self.lesson;
        let count = |class| self.lesson.classes.iter().filter(|other| **other == class).count();
        let nearest = nearest_of((0..self.lesson.names.len()).map(count).min().unwrap_or(0));
        let rows = self.bases(&self.all());
        Some(Memory::new(features, &rows, self.settings.memory, nearest, zero, limit))
    }

    /// Finds how familiar each photograph is with all others but those of its group, and the threshold.
    fn unknown(&self, memory: &Memory, held_out: &mut [HeldOut]) -> Option<UnknownFigures> {
        let share = self.settings.unknown?;
        let Lesson { features, groups, views, .. } = *self.lesson;
        let familiarities: Vec<Option<f64>> = (0..groups.len())
            .into_par_iter()
            .map(|photograph| {
                let row = features.row(photograph * views);
                memory.familiarity(row, |other| groups[other] != groups[photograph])
            })
            .collect();
        for (held_out, familiarity) in held_out.iter_mut().zip(&familiarities) {
            held_out.familiarity = *familiarity;
        }
        let known: Vec<f64> = familiarities.into_iter().flatten().collect();
        if known.len() < FEW_FOR_UNKNOWN {
            return None;
        }
        let median = lower_quantile(&known, 0.5);
        // Between the last that is rejected and the first that is not; with fewer photographs than
        // would reject one, a little below all of them.
        let first_kept = lower_quantile(&known, share);
        let rejected_below =
            known.iter().copied().filter(|&value| value < first_kept).fold(f64::NEG_INFINITY, f64::max);
        let below = if rejected_below.is_finite() {
            rejected_below
        } else {
            first_kept - (median - first_kept) * 0.1
        };
        let threshold = f64::midpoint(first_kept, below);
        let rejected = known.iter().filter(|&&value| value < threshold).count() as f64 / known.len() as f64;
        // A picture of median familiarity is unknown with a probability of 0.1 %.
        let slope = 7.0 / (median - threshold).max(0.005);
        Some(UnknownFigures {
            pictures: memory.len(),
            nearest: memory.nearest,
            threshold,
            slope,
            rejected,
            median,
        })
    }

    fn figures(
        &self,
        held_out: &[HeldOut],
        unknown: Option<UnknownFigures>,
        strength: f64,
        temperature: f64,
        log_loss: f64,
        curve: &[Curve],
    ) -> Figures {
        let Lesson { classes, names, groups, views, .. } = *self.lesson;
        let count = names.len();
        let mut confusion = vec![vec![0; count]; count];
        for (held_out, &class) in held_out.iter().zip(classes) {
            confusion[class][held_out.best()] += 1;
        }
        let right: Vec<bool> =
            held_out.iter().zip(classes).map(|(held_out, &class)| held_out.best() == class).collect();
        let share =
            |right: &[bool]| right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64;
        let learning_curve: Vec<(f64, f64)> = curve
            .iter()
            .map(|curve| (curve.part, share(&curve.right)))
            .chain([(1.0, share(&right))])
            .collect();
        let steepness = steepness(&learning_curve);
        // In each fold this part of the photographs was learnt from.
        let part = (self.fold_count - 1) as f64 / self.fold_count as f64;
        let left = libm::pow(part, steepness);
        let accuracy = Share::of_others(&right, groups, left);
        let class = |class: usize| {
            let own: Vec<usize> = (0..classes.len()).filter(|&one| classes[one] == class).collect();
            let recall = Share::of_others(
                &own.iter().map(|&one| right[one]).collect::<Vec<_>>(),
                &own.iter().map(|&one| groups[one]).collect::<Vec<_>>(),
                left,
            );
            let taken: usize = confusion.iter().map(|row| row[class]).sum();
            let score = |one: usize| score(&held_out[one], class, unknown.as_ref());
            let others: Vec<f64> =
                (0..classes.len()).filter(|&one| classes[one] != class).map(|one| -score(one)).collect();
            // At most the wanted share of the others is above.
            let threshold = (-lower_quantile(&others, self.settings.false_alarms) + 1e-3).clamp(0.05, 0.999);
            let above = own.iter().filter(|&&one| score(one) >= threshold).count();
            let errors = own.len() as f64 * (1.0 - recall.value);
            ClassFigures {
                name: names[class].clone(),
                photographs: own.len(),
                recall,
                precision: (taken > 0).then(|| confusion[class][class] as f64 / taken as f64),
                threshold,
                recall_at_threshold: above as f64 / own.len().max(1) as f64,
                photographs_for_half_the_errors: (errors >= 2.0)
                    .then(|| ((own.len() as f64 * libm::exp2(1.0 / steepness)) / 10.0).ceil() as usize * 10),
            }
        };
        let figures_of: Vec<ClassFigures> = (0..count).map(class).collect();
        Figures {
            photographs: classes.len(),
            groups: groups.iter().max().map_or(0, |group| group + 1),
            views,
            folds: self.fold_count,
            accuracy,
            balanced_accuracy: figures_of.iter().map(|class| class.recall.value).sum::<f64>() / count as f64,
            log_loss,
            strength,
            temperature,
            classes: figures_of,
            confusion,
            learning_curve,
            unknown,
            changed_by_rounding: 0.0,
        }
    }
}

/// The score that rules see: the class's probability, less what is unknown.
fn score(held_out: &HeldOut, class: usize, unknown: Option<&UnknownFigures>) -> f64 {
    let known = match (unknown, held_out.familiarity) {
        (Some(unknown), Some(familiarity)) => {
            1.0 - 1.0 / (1.0 + libm::exp(unknown.slope * (familiarity - unknown.threshold)))
        }
        _ => 1.0,
    };
    held_out.probabilities[class] * known
}

/// How fast errors fall with photographs: `c` of `errors = a * photographs^-c`, by least squares of the
/// logarithms, kept within what learning curves show.
fn steepness(curve: &[(f64, f64)]) -> f64 {
    let points: Vec<(f64, f64)> = curve
        .iter()
        .map(|&(part, accuracy)| (libm::log(part), libm::log((1.0 - accuracy).max(1e-3))))
        .collect();
    let n = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in points {
        xy += (x - mean_x) * (y - mean_y);
        xx += (x - mean_x) * (x - mean_x);
    }
    (-xy / xx).clamp(0.2, 1.0)
}
