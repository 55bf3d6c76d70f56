//! Plots as SVG, in the colours of the page.

use std::fmt::Write as _;

use super::escaped;

/// One bar of a chart.
#[derive(Debug, Clone)]
pub struct Bar {
    /// What it stands for.
    pub name: String,
    /// Its length; none where there is nothing to show.
    pub value: Option<f64>,
}

/// Height of a horizontal bar with its gap, in pixels.
const ROW: usize = 15;
/// Width of the names, of the bars and of the figures behind them.
const WIDTHS: [usize; 3] = [190, 380, 50];
/// Characters of a name.
const NAME: usize = 30;

/// Horizontal bars from zero, each with its name and value.
pub fn bars(bars: &[Bar], unit: &str) -> String {
    let most = bars.iter().filter_map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = (WIDTHS.iter().sum::<usize>(), bars.len() * ROW + 4);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"{} by name\">",
        escaped(unit)
    );
    for (index, bar) in bars.iter().enumerate() {
        let y = index * ROW;
        let length = bar.value.unwrap_or(0.0).max(0.0) / most * WIDTHS[1] as f64;
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            WIDTHS[0] - 6,
            y + 12,
            escaped(&shortened(&bar.name))
        );
        if let Some(value) = bar.value {
            let _ = write!(
                svg,
                "<rect class=\"one\" x=\"{}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{value:.1}</text>",
                WIDTHS[0],
                y + 3,
                ROW - 4,
                WIDTHS[0] as f64 + length + 4.0,
                y + 12
            );
        }
    }
    svg + "</svg>"
}

/// The end of a long name, which tells layers apart.
fn shortened(name: &str) -> String {
    let count = name.chars().count();
    if count <= NAME {
        return name.to_owned();
    }
    let end: String = name.chars().skip(count - NAME + 1).collect();
    format!("…{end}")
}

/// Counts of equally wide bins between two values; the height is the root of the count, so that
/// what is rare is seen.
pub fn histogram(counts: &[u64], low: f64, high: f64) -> String {
    const WIDTH: usize = 256;
    const HEIGHT: usize = 56;
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let mut path = format!("M0 {HEIGHT}");
    for (index, &count) in counts.iter().enumerate() {
        let y = HEIGHT as f64 * (1.0 - (count as f64 / most).sqrt());
        let edge = |index: usize| index * WIDTH / counts.len().max(1);
        let _ = write!(path, "V{y:.0}H{}", edge(index + 1));
        debug_assert!(edge(index) <= edge(index + 1));
    }
    let _ = write!(path, "V{HEIGHT}Z");
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {}\" width=\"{WIDTH}\" height=\"{}\" role=\"img\" aria-label=\"histogram from \
         {low:.3} to {high:.3}\"><path class=\"one\" d=\"{path}\"/><path class=\"axis\" d=\"M0 {HEIGHT}H{WIDTH}\"/>\
         <text x=\"0\" y=\"{y}\">{low:.3}</text><text x=\"{WIDTH}\" y=\"{y}\" text-anchor=\"end\">{high:.3}</text></svg>",
        HEIGHT + 15,
        HEIGHT + 15,
        y = HEIGHT + 12
    )
}

/// Points of a curve, `0..=1` each.
pub type Curve = Vec<(f64, f64)>;

/// How often what is said with some probability is right, against that probability: one curve of the
/// int8 network and one, dashed, of f32's; the diagonal is where probabilities mean what they say.
pub fn reliability(int8: &Curve, float: &Curve) -> String {
    const SIDE: usize = 280;
    const MARGIN: usize = 40;
    let x = |value: f64| MARGIN as f64 + value * SIDE as f64;
    let y = |value: f64| 10.0 + (1.0 - value) * SIDE as f64;
    let total = SIDE + MARGIN + 14;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {total} {total}\" width=\"{total}\" height=\"{total}\" role=\"img\" aria-label=\"share of \
         right pictures by probability\">"
    );
    for tick in 0..=5 {
        let value = f64::from(tick) / 5.0;
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{:.0} {:.0}H{:.0}M{:.0} {:.0}V{:.0}\"/><text x=\"{:.0}\" y=\"{:.0}\" \
             text-anchor=\"middle\">{value:.1}</text><text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{value:.1}</text>",
            x(0.0),
            y(value),
            x(1.0),
            x(value),
            y(0.0),
            y(1.0),
            x(value),
            y(0.0) + 16.0,
            MARGIN - 6,
            y(value) + 4.0
        );
    }
    let _ =
        write!(svg, "<path class=\"axis\" d=\"M{:.0} {:.0}L{:.0} {:.0}\"/>", x(0.0), y(0.0), x(1.0), y(1.0));
    for (curve, class) in [(float, "line-two"), (int8, "line-one")] {
        let points: Vec<String> = curve.iter().map(|&(a, b)| format!("{:.1} {:.1}", x(a), y(b))).collect();
        if !points.is_empty() {
            let _ = write!(svg, "<path class=\"{class}\" d=\"M{}\"/>", points.join("L"));
        }
    }
    for &(a, b) in int8 {
        let _ = write!(svg, "<circle class=\"one\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>", x(a), y(b));
    }
    svg + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width() {
        let bar = |name: &str, value| Bar { name: name.into(), value };
        let svg = bars(&[bar("a<b", Some(20.0)), bar("b", Some(40.0)), bar("c", None)], "dB");
        assert!(svg.contains("width=\"190.0\"") && svg.contains("width=\"380.0\""), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        let name = shortened("features.12.denseblock4.denselayer16.conv2");
        assert!(
            name.starts_with('…') && name.ends_with("denselayer16.conv2") && name.chars().count() == 30,
            "{name}"
        );
        assert_eq!(shortened("conv1"), "conv1");
    }

    #[test]
    fn the_root_of_a_count_is_its_height() {
        let svg = histogram(&[0, 1, 4], -1.0, 1.0);
        assert!(svg.contains("M0 56V56H85V28H170V0H256V56Z"), "{svg}");
        // Nothing was counted: no division by zero.
        assert!(histogram(&[0; 4], 0.0, 1.0).contains("V56H64"));
        assert!(histogram(&[], 0.0, 1.0).contains("M0 56V56Z"));
    }

    #[test]
    fn a_curve_is_drawn_from_the_lower_left() {
        let svg = reliability(&vec![(0.0, 0.0), (1.0, 1.0)], &vec![]);
        assert!(svg.contains("class=\"line-one\" d=\"M40.0 290.0L320.0 10.0\""), "{svg}");
        assert!(!svg.contains("line-two"), "{svg}");
    }
}
