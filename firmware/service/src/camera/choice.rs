//! Which format, size and rate a camera is to give.

use std::fmt;

use resight_imaging::{PixelFormat, Region};
use v4l::Fraction;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::{FrameSizeEnum, Stepwise};

use super::format::{Content, Known};

/// Frames per second that are enough when the configuration asks for none.
const RATE: f64 = 25.0;

/// Rates are often a little less than they are called: 29.97 for 30.
const TOLERANCE: f64 = 0.98;

/// Sizes to be tried where a driver takes any.
const COMMON: [(u32, u32); 7] =
    [(320, 240), (640, 480), (800, 600), (1280, 720), (1280, 960), (1920, 1080), (3840, 2160)];

/// The smallest frame that holds all that the network wants to see, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Wanted {
    /// For a network that resizes the shorter side of this region of a frame to `side` pixels.
    pub(crate) fn new(side: u32, region: Region) -> Self {
        let whole = |share: f32| (f64::from(side) / f64::from(share)).ceil().min(16384.0) as u32;
        Self { width: whole(region.width), height: whole(region.height) }
    }
}

/// What the configuration prescribes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Prescribed {
    /// A code of V4L2 or a name of ours.
    pub(crate) format: Option<String>,
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    /// Frames per second.
    pub(crate) rate: Option<f64>,
}

impl Prescribed {
    fn rate(&self) -> f64 {
        self.rate.unwrap_or(RATE)
    }
}

/// A format in a size.
#[derive(Debug, Clone)]
pub(super) struct Mode {
    pub(super) known: Known,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Times from frame to frame; empty where the driver does not tell.
    pub(super) intervals: Vec<Fraction>,
}

/// Frames per second.
pub(super) fn rate(interval: Fraction) -> Option<f64> {
    let rate = f64::from(interval.denominator) / f64::from(interval.numerator);
    (interval.numerator > 0 && rate > 0.0).then_some(rate)
}

/// Thousandths keep a rate such as 29.97.
pub(super) fn interval(rate: f64) -> Fraction {
    Fraction::new(1000, (rate * 1000.0).round().clamp(1.0, f64::from(u32::MAX)) as u32)
}

impl Mode {
    /// The slowest interval that reaches a rate, or else the fastest.
    fn interval(&self, wanted: f64) -> Option<Fraction> {
        let mut known: Vec<(f64, Fraction)> =
            self.intervals.iter().filter_map(|interval| Some((rate(*interval)?, *interval))).collect();
        known.sort_by(|a, b| a.0.total_cmp(&b.0));
        let enough = known.iter().find(|(rate, _)| *rate >= wanted * TOLERANCE);
        enough.or(known.last()).map(|(_, interval)| *interval)
    }

    fn covers(&self, wanted: Wanted) -> bool {
        // A mosaic becomes an image of half its size.
        let share = if self.known.is_bayer() { 2 } else { 1 };
        self.width / share >= wanted.width && self.height / share >= wanted.height
    }

    /// By how much the rate falls short: 0, or the tenths that it is missed by.
    fn shortfall(&self, wanted: f64) -> u64 {
        match self.interval(wanted).and_then(rate) {
            Some(rate) if rate < wanted * TOLERANCE => (wanted / rate * 10.0) as u64,
            _ => 0,
        }
    }

    /// Smaller is better.
    fn rank(&self, wanted: Wanted, rate: f64) -> (bool, bool, u64, u64) {
        let grey = match self.known.content {
            Content::Pixels(
                PixelFormat::Grey | PixelFormat::Grey10 | PixelFormat::Grey12 | PixelFormat::Grey16,
            ) => true,
            Content::Pixels(_) | Content::Jpeg => false,
        };
        let pixels = u64::from(self.width) * u64::from(self.height);
        let cost = self.known.cost();
        if self.covers(wanted) {
            return (grey, false, self.shortfall(rate), pixels * cost);
        }
        // The larger the better, in the cheapest format.
        let missing = (u64::from(u32::MAX) - pixels.min(u64::from(u32::MAX))) * 1000;
        (grey, true, self.shortfall(rate), missing + cost)
    }
}

/// A choice, and why.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) mode: Mode,
    /// Frames per second to ask for.
    pub(super) interval: Fraction,
    pub(super) reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mode { known, width, height, .. } = &self.mode;
        let code = String::from_utf8_lossy(&known.code);
        write!(f, "{width}x{height} {code}")?;
        if let Some(rate) = rate(self.interval) {
            write!(f, " at {} frames/s", short(rate))?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// A rate without needless digits.
pub(super) fn short(rate: f64) -> String {
    let text = format!("{rate:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Chooses the cheapest mode that holds what is wanted, often enough.
///
/// # Errors
/// What is prescribed and cannot be had, with what can be had.
pub(super) fn choose(modes: &[Mode], wanted: Wanted, prescribed: &Prescribed) -> Result<Choice, ChoiceError> {
    let codes = prescribed.format.as_deref().map(Known::named);
    let fits = |mode: &&Mode| {
        codes.as_ref().is_none_or(|codes| codes.contains(&mode.known))
            && prescribed.width.is_none_or(|width| mode.width == width)
            && prescribed.height.is_none_or(|height| mode.height == height)
    };
    let rate = prescribed.rate();
    let candidates: Vec<&Mode> = modes.iter().filter(fits).collect();
    let Some(best) = candidates.iter().min_by_key(|mode| mode.rank(wanted, rate)) else {
        return Err(refusal(modes, prescribed));
    };
    let interval = best.interval(rate).unwrap_or(interval(rate));
    let hold = format!("{}x{}", wanted.width, wanted.height);
    let mut reason = if candidates.len() == 1 {
        "nothing else fits".to_owned()
    } else if !best.covers(wanted) {
        format!("the largest of {} modes, none of which holds the network's {hold}", candidates.len())
    } else if best.shortfall(rate) > 0 {
        format!(
            "of {} modes that nearest to {} frames/s, which none that holds the network's {hold} has",
            candidates.len(),
            short(rate)
        )
    } else {
        format!(
            "the cheapest of {} modes that holds the network's {hold} at {} frames/s",
            candidates.len(),
            short(rate)
        )
    };
    if prescribed.format.is_some() || prescribed.width.or(prescribed.height).is_some() {
        reason += ", as the configuration has it";
    }
    Ok(Choice { mode: (*best).clone(), interval, reason })
}

/// What is prescribed and cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum ChoiceError {
    #[error("there is no format that can be used{}", offers(.offered.as_deref()))]
    NoFormat {
        /// The codes of the formats that the camera has, where they are known.
        offered: Option<Vec<String>>,
    },
    #[error("the camera does not offer {}; it has: {}", wishes(.prescribed), .offered.join(", "))]
    NotOffered {
        prescribed: Box<Prescribed>,
        /// Codes with sizes.
        offered: Vec<String>,
    },
}

fn offers(codes: Option<&[String]>) -> String {
    codes.map_or_else(String::new, |codes| format!(" (it has: {})", codes.join(", ")))
}

fn wishes(prescribed: &Prescribed) -> String {
    let mut parts = vec![];
    parts.extend(prescribed.format.as_ref().map(|format| format!("format `{format}`")));
    parts.extend(prescribed.width.map(|width| format!("width {width}")));
    parts.extend(prescribed.height.map(|height| format!("height {height}")));
    parts.join(" with ")
}

fn refusal(modes: &[Mode], prescribed: &Prescribed) -> ChoiceError {
    if modes.is_empty() {
        return ChoiceError::NoFormat { offered: None };
    }
    let mut offered: Vec<String> = modes
        .iter()
        .map(|mode| format!("{} {}x{}", String::from_utf8_lossy(&mode.known.code), mode.width, mode.height))
        .collect();
    offered.dedup();
    ChoiceError::NotOffered { prescribed: Box::new(prescribed.clone()), offered }
}

/// Sizes worth considering of what a driver offers.
pub(super) fn sizes(offered: &[FrameSizeEnum], wanted: Wanted, prescribed: &Prescribed) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = vec![];
    for size in offered {
        match size {
            FrameSizeEnum::Discrete(size) => found.push((size.width, size.height)),
            FrameSizeEnum::Stepwise(steps) => {
                let exact =
                    (prescribed.width.unwrap_or(wanted.width), prescribed.height.unwrap_or(wanted.height));
                let tried = [exact].into_iter().chain(COMMON).chain([(steps.max_width, steps.max_height)]);
                found.extend(tried.filter_map(|size| fit(steps, size)));
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The smallest size of a range that holds another.
fn fit(steps: &Stepwise, (width, height): (u32, u32)) -> Option<(u32, u32)> {
    let side = |wanted: u32, least: u32, most: u32, step: u32| {
        let above = wanted.saturating_sub(least).div_ceil(step.max(1));
        let side = u64::from(least) + u64::from(above) * u64::from(step.max(1));
        (side <= u64::from(most)).then_some(side as u32)
    };
    Some((
        side(width, steps.min_width, steps.max_width, steps.step_width)?,
        side(height, steps.min_height, steps.max_height, steps.step_height)?,
    ))
}

/// Intervals worth considering of what a driver offers.
pub(super) fn intervals(offered: &[FrameIntervalEnum], prescribed: &Prescribed) -> Vec<Fraction> {
    let mut found = vec![];
    for offer in offered {
        match offer {
            FrameIntervalEnum::Discrete(interval) => found.push(*interval),
            FrameIntervalEnum::Stepwise(steps) => {
                // The shortest interval is the highest rate.
                let (high, low) = (rate(steps.min), rate(steps.max));
                found.extend([steps.min, steps.max]);
                let between = |wanted: &f64| {
                    high.is_none_or(|high| *wanted <= high) && low.is_none_or(|low| *wanted >= low)
                };
                found.extend(Some(prescribed.rate()).filter(between).map(interval));
            }
        }
    }
    found
}

/// Whether frames of a mode can be used by the rest of the service.
pub(super) fn is_usable(mode: &Mode) -> bool {
    let side = 1..=16384;
    let row = match mode.known.content {
        Content::Jpeg => 0,
        Content::Pixels(format) => format.row_bytes(mode.width.min(16384)),
    };
    side.contains(&mode.width) && side.contains(&mode.height) && row <= resight_imaging::MAX_STRIDE
}

#[cfg(test)]
mod tests {
    use v4l::FourCC;
    use v4l::framesize::Discrete;

    use super::*;

    const WANTED: Wanted = Wanted { width: 256, height: 256 };

    fn mode(code: [u8; 4], width: u32, height: u32, rates: &[u32]) -> Mode {
        let intervals = rates.iter().map(|rate| Fraction::new(1, *rate)).collect();
        Mode { known: Known::of(FourCC::new(&code)).unwrap(), width, height, intervals }
    }

    fn chosen(modes: &[Mode], wanted: Wanted, prescribed: &Prescribed) -> String {
        choose(modes, wanted, prescribed).unwrap().to_string()
    }

    /// What a common USB camera offers.
    fn usb() -> Vec<Mode> {
        vec![
            mode(*b"MJPG", 1920, 1080, &[30, 15]),
            mode(*b"MJPG", 1280, 720, &[30, 15]),
            mode(*b"MJPG", 640, 480, &[30, 15]),
            mode(*b"MJPG", 320, 240, &[30, 15]),
            mode(*b"YUYV", 1920, 1080, &[5]),
            mode(*b"YUYV", 1280, 720, &[10, 5]),
            mode(*b"YUYV", 640, 480, &[30, 20, 15]),
            mode(*b"YUYV", 320, 240, &[30, 20, 15]),
        ]
    }

    #[test]
    fn the_smallest_raw_frame_that_is_large_enough() {
        let none = Prescribed::default();
        assert!(chosen(&usb(), WANTED, &none).starts_with("640x480 YUYV at 30 frames/s: the cheapest of 8"));
        let small = Wanted { width: 224, height: 224 };
        assert!(chosen(&usb(), small, &none).starts_with("320x240 YUYV at 30 "));
    }

    #[test]
    fn a_region_needs_a_larger_frame_and_a_mosaic_twice_the_size() {
        assert_eq!(Wanted::new(256, Region::WHOLE), WANTED);
        let region = Region::new(0.0, 0.5, 0.5, 0.25).unwrap();
        assert_eq!(Wanted::new(256, region), Wanted { width: 512, height: 1024 });
        let modes = [mode(*b"RGGB", 500, 500, &[30]), mode(*b"RGGB", 640, 640, &[30])];
        assert!(chosen(&modes, WANTED, &Prescribed::default()).starts_with("640x640"));
    }

    #[test]
    fn jpeg_where_raw_is_too_slow() {
        let large = Wanted { width: 700, height: 700 };
        assert!(chosen(&usb(), large, &Prescribed::default()).starts_with("1280x720 MJPG at 30 "));
        // A low rate makes raw good enough, and is not exceeded without need.
        let slow = Prescribed { rate: Some(8.0), ..Prescribed::default() };
        assert!(chosen(&usb(), large, &slow).starts_with("1280x720 YUYV at 10 "));
        let slow = Prescribed { rate: Some(15.0), ..Prescribed::default() };
        assert!(chosen(&usb(), WANTED, &slow).starts_with("640x480 YUYV at 15 "));
    }

    #[test]
    fn what_cannot_be_had_is_approached() {
        let huge = Wanted { width: 4000, height: 4000 };
        let text = chosen(&usb(), huge, &Prescribed::default());
        assert!(text.starts_with("1920x1080 MJPG at 30 frames/s: the largest of 8"), "{text}");
        let fast = Prescribed { rate: Some(120.0), ..Prescribed::default() };
        let text = chosen(&usb(), WANTED, &fast);
        assert!(text.starts_with("640x480 YUYV at 30 frames/s: of 8 modes that nearest to 120"), "{text}");
    }

    #[test]
    fn cheap_formats_first_and_grey_last() {
        let modes =
            [b"GREY", b"RGGB", b"MJPG", b"RGB3", b"YUYV", b"NV12"].map(|code| mode(*code, 640, 480, &[30]));
        for count in (1..=modes.len()).rev() {
            let choice = choose(&modes[..count], WANTED, &Prescribed::default()).unwrap();
            assert_eq!(choice.mode.known, modes[count - 1].known);
        }
    }

    #[test]
    fn the_configuration_prevails_or_is_refused_with_what_there_is() {
        let prescribed = |format: &str, width| Prescribed {
            format: Some(format.into()),
            width: Some(width),
            ..Prescribed::default()
        };
        assert!(chosen(&usb(), WANTED, &prescribed("mjpeg", 1920)).starts_with("1920x1080 MJPG at 30 "));
        assert!(chosen(&usb(), WANTED, &prescribed("YUYV", 320)).starts_with("320x240 YUYV"));
        let error = choose(&usb(), WANTED, &prescribed("nv12", 640)).unwrap_err().to_string();
        assert!(
            error.starts_with("the camera does not offer format `nv12` with width 640; it has: MJPG 1920")
        );
        let error = choose(&[], WANTED, &Prescribed::default()).unwrap_err();
        assert_eq!(error, ChoiceError::NoFormat { offered: None });
        assert_eq!(error.to_string(), "there is no format that can be used");
    }

    #[test]
    fn rates_that_are_not_told_are_asked_for() {
        let choice = choose(&[mode(*b"NV12", 640, 480, &[])], WANTED, &Prescribed::default()).unwrap();
        assert_eq!(rate(choice.interval), Some(25.0));
        assert_eq!(rate(interval(29.97)), Some(29.97));
        assert_eq!(rate(Fraction::new(0, 30)), None);
        assert_eq!(rate(Fraction::new(1, 0)), None);
        assert_eq!(short(30.0), "30");
        assert_eq!(short(29.97), "29.97");
    }

    #[test]
    fn a_range_of_sizes_and_of_rates_is_met_where_it_matters() {
        let steps = |least, most, step| {
            FrameSizeEnum::Stepwise(Stepwise {
                min_width: least,
                max_width: most,
                step_width: step,
                min_height: least,
                max_height: most,
                step_height: step,
            })
        };
        let none = Prescribed::default();
        let found = sizes(&[steps(32, 2000, 32)], WANTED, &none);
        assert!(found.contains(&(256, 256)) && found.contains(&(640, 480)) && !found.contains(&(3840, 2176)));
        assert_eq!(sizes(&[steps(48, 100, 10)], Wanted { width: 49, height: 58 }, &none), [(58, 58)]);
        // Neither a step of zero nor a range without an end is a trap.
        assert!(sizes(&[steps(2, u32::MAX, 0)], WANTED, &none).contains(&(256, 256)));
        let discrete = FrameSizeEnum::Discrete(Discrete { width: 5, height: 6 });
        assert_eq!(sizes(&[discrete], WANTED, &none), [(5, 6)]);
        let range = |least: u32, most: u32| {
            FrameIntervalEnum::Stepwise(v4l::frameinterval::Stepwise {
                min: Fraction::new(1, most),
                max: Fraction::new(1, least),
                step: Fraction::new(1, 1),
            })
        };
        let rates = |found: Vec<Fraction>| found.into_iter().filter_map(rate).collect::<Vec<_>>();
        assert_eq!(rates(intervals(&[range(1, 60)], &none)), [60.0, 1.0, 25.0]);
        assert_eq!(rates(intervals(&[range(50, 60)], &none)), [60.0, 50.0]);
    }
}
