//! Functions of one real number, as they stand in a network between two layers: what becomes a
//! table of 256 entries.

/// Largest number of parts of a function.
const MAX_PARTS: usize = 64;

/// A function of one number `x`, which may have other constants for each channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Function {
    /// `x` itself.
    Argument,
    /// One number, or one for each channel.
    Constant(Vec<f64>),
    /// A function of a function.
    Unary(Unary, Box<Function>),
    /// Two functions of the same `x`, brought together.
    Binary(Binary, Box<[Function; 2]>),
    /// The number that a function of `x` has in a list.
    Lookup(Lookup, Box<Function>),
}

/// Numbers by whole steps of an argument. Beyond the ends it is the first one and the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookup {
    /// What a step is worth.
    pub step: f64,
    /// How many steps from zero the first number is at.
    pub first: f64,
    /// The numbers.
    pub numbers: Vec<f64>,
}

/// What a function does with one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `exp(x)`.
    Exponential,
    /// `ln(x)`.
    Logarithm,
    /// The square root.
    Root,
    /// The error function.
    ErrorFunction,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// The magnitude.
    Magnitude,
}

/// What a function does with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Sum,
    /// `a - b`.
    Difference,
    /// `a * b`.
    Product,
    /// `a / b`.
    Quotient,
    /// The larger.
    Maximum,
    /// The smaller.
    Minimum,
    /// `a` to the power of `b`.
    Power,
}

impl Function {
    /// The same number for all channels.
    pub fn number(value: f64) -> Self {
        Self::Constant(vec![value])
    }

    /// A number for each channel; one number where all are the same.
    #[expect(clippy::float_cmp, reason = "only exactly equal numbers are one")]
    pub fn numbers(values: &[f64]) -> Self {
        match values.first() {
            Some(&first) if values.iter().all(|&value| value == first) => Self::number(first),
            _ => Self::Constant(values.to_vec()),
        }
    }

    /// `operation(self)`.
    #[must_use]
    pub fn then(self, operation: Unary) -> Self {
        Self::Unary(operation, Box::new(self))
    }

    /// `operation(self, other)`.
    #[must_use]
    pub fn with(self, operation: Binary, other: Self) -> Self {
        Self::Binary(operation, Box::new([self, other]))
    }

    /// `min(max(self, low), high)`.
    #[must_use]
    pub fn limited(self, low: f64, high: f64) -> Self {
        self.with(Binary::Maximum, Self::number(low)).with(Binary::Minimum, Self::number(high))
    }

    /// The function of what `inner` gives; `None` where it has too many parts.
    pub fn of(&self, inner: &Self) -> Option<Self> {
        // Both are bounded, so that what is refused is never large either.
        let result = self.substitute(inner);
        result.is_small().then_some(result)
    }

    fn substitute(&self, inner: &Self) -> Self {
        match self {
            Self::Argument => inner.clone(),
            Self::Constant(values) => Self::Constant(values.clone()),
            Self::Unary(operation, function) => function.substitute(inner).then(*operation),
            Self::Binary(operation, functions) => {
                functions[0].substitute(inner).with(*operation, functions[1].substitute(inner))
            }
            Self::Lookup(lookup, function) => {
                Self::Lookup(lookup.clone(), Box::new(function.substitute(inner)))
            }
        }
    }

    /// How many parts it has; the bound on what nodes of a file can make of it.
    fn parts(&self) -> usize {
        match self {
            Self::Argument | Self::Constant(_) => 1,
            Self::Unary(_, function) | Self::Lookup(_, function) => 1 + function.parts(),
            Self::Binary(_, functions) => 1 + functions[0].parts() + functions[1].parts(),
        }
    }

    /// Whether it has few enough parts.
    pub fn is_small(&self) -> bool {
        self.parts() <= MAX_PARTS
    }

    /// How many channels it has constants for, where they differ.
    pub fn channels(&self) -> Option<usize> {
        match self {
            Self::Argument => None,
            Self::Constant(values) => (values.len() > 1).then_some(values.len()),
            Self::Unary(_, function) | Self::Lookup(_, function) => function.channels(),
            Self::Binary(_, functions) => functions[0].channels().or_else(|| functions[1].channels()),
        }
    }

    /// Its value in a channel.
    pub fn at(&self, x: f64, channel: usize) -> f64 {
        match self {
            Self::Argument => x,
            Self::Constant(values) => values[if values.len() == 1 { 0 } else { channel }],
            Self::Unary(operation, function) => operation.of(function.at(x, channel)),
            Self::Binary(operation, functions) => {
                operation.of(functions[0].at(x, channel), functions[1].at(x, channel))
            }
            Self::Lookup(lookup, function) => lookup.of(function.at(x, channel)),
        }
    }
}

impl Lookup {
    fn of(&self, x: f64) -> f64 {
        // A negative place is the first one.
        let place = (x / self.step - self.first).round() as usize;
        self.numbers.get(place).or(self.numbers.last()).copied().unwrap_or(f64::NAN)
    }
}

impl Unary {
    fn of(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
            Self::Tanh => libm::tanh(x),
            Self::Exponential => libm::exp(x),
            Self::Logarithm => libm::log(x),
            Self::Root => x.sqrt(),
            Self::ErrorFunction => libm::erf(x),
            // Without overflow for large numbers.
            Self::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
            Self::Magnitude => x.abs(),
        }
    }
}

impl Binary {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => a + b,
            Self::Difference => a - b,
            Self::Product => a * b,
            Self::Quotient => a / b,
            Self::Maximum => a.max(b),
            Self::Minimum => a.min(b),
            Self::Power => libm::pow(a, b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(function: &Function, x: f64, expected: f64) {
        let found = function.at(x, 0);
        assert!((found - expected).abs() < 1e-9, "{function:?} of {x} is {found}, not {expected}");
    }

    #[test]
    fn functions_are_what_their_names_say() {
        let x = || Function::Argument;
        near(&x().then(Unary::Sigmoid), 1.0, 0.731_058_578_630_004_9);
        near(&x().then(Unary::ErrorFunction), 0.5, 0.520_499_877_813_046_5);
        near(&x().then(Unary::Softplus), 800.0, 800.0);
        near(&x().then(Unary::Softplus), 0.0, 2f64.ln());
        near(&x().limited(0.0, 6.0), 7.0, 6.0);
        near(&x().with(Binary::Power, Function::number(3.0)), -2.0, -8.0);
    }

    #[test]
    fn a_function_of_a_function_has_its_constants_by_channel() {
        let slope = Function::numbers(&[0.5, 2.0]);
        let leaky = Function::Argument.with(Binary::Product, slope);
        let shifted = Function::Argument.with(Binary::Sum, Function::number(1.0));
        let both = leaky.of(&shifted).unwrap();
        assert_eq!((both.at(3.0, 0), both.at(3.0, 1), both.channels()), (2.0, 8.0, Some(2)));
        assert_eq!(shifted.channels(), None);
        assert_eq!(Function::numbers(&[3.0; 5]), Function::number(3.0));
    }

    #[test]
    fn a_list_has_a_number_for_each_step() {
        let lookup = Lookup { step: 0.5, first: -1.0, numbers: vec![7.0, -3.0, 2.0] };
        let function = Function::Lookup(lookup, Box::new(Function::Argument));
        let found = [-9.0, -0.5, -0.1, 0.0, 0.5, 9.0].map(|x| function.at(x, 0));
        assert_eq!(found, [7.0, 7.0, -3.0, -3.0, 2.0, 2.0]);
        let shifted = Function::Argument.with(Binary::Sum, Function::number(0.5));
        assert_eq!(function.of(&shifted).map(|both| both.at(0.0, 0)), Some(2.0));
    }

    #[test]
    fn functions_do_not_grow_without_end() {
        let mut function = Function::Argument;
        let square = Function::Argument.with(Binary::Product, Function::Argument);
        let mut steps = 0;
        while let Some(next) = square.of(&function) {
            function = next;
            steps += 1;
        }
        assert!((3..10).contains(&steps) && function.is_small(), "{steps}");
    }
}
