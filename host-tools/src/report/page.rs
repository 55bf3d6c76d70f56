//! A model's report as people read it.

use std::path::Path;

use resight_base::files::FileError;
use resight_model_file::Labels;
use resight_runtime::Head;
use serde_json::Value;

use super::ModelReport;
use super::accuracy::{Accuracy, Changed, Compared, OwnAccuracy};
use super::values::{BINS, Counts, LayerValues, at_the_ends};
use crate::page::chart::{Bar, bars, histogram, reliability};
use crate::page::{Page, escaped, percent};
use crate::paired::Difference;
use crate::tags::TaggedImage;
use crate::teach::TaughtReport;
use crate::teach::page::{figures, with_interval};

/// Thumbnails of changed decisions.
const SHOWN: usize = 40;
/// Layers whose histograms are shown.
const LAYERS: usize = 200;
/// Classes of a picture that are named.
const NAMED: usize = 3;

/// Writes the page of a report; gives its length in bytes.
///
/// # Errors
/// A file that cannot be written; then nothing is left behind.
pub fn write(report: &ModelReport<'_>, output: &Path) -> Result<usize, FileError> {
    let page = page(report);
    page.write(output)?;
    Ok(page.bytes())
}

fn page(report: &ModelReport<'_>) -> Page {
    let model = report.model;
    let mut page = Page::new(&format!("{} - resight report", model.name()), model.name());
    summary(&mut page, report);
    if let Some(accuracy) = &report.accuracy {
        accuracies(&mut page, accuracy);
        if let Some((_, compared)) = &accuracy.float {
            changes(&mut page, compared, model.labels(), &accuracy.images);
        }
        probabilities(&mut page, accuracy);
    }
    if let Ok(taught) = serde_json::from_value::<TaughtReport>(model.report()["taught"].clone()) {
        page.heading("What was taught");
        figures(&mut page, &taught.figures, &taught.backbone);
    }
    errors(&mut page, model.report());
    values(&mut page, report);
    provenance(&mut page, report);
    page
}

fn summary(page: &mut Page, report: &ModelReport<'_>) {
    let [height, width] = report.model.preprocessing().crop;
    let gives = if let Head::Classes(classes) = report.model.head() {
        format!("{} classes", classes.len())
    } else {
        "tensors".to_owned()
    };
    let sqnr = report.model.report()["logits_sqnr_db"].as_f64();
    let distance = sqnr.map_or(String::new(), |sqnr| {
        format!(" When it was made, its logits were {sqnr:.1} dB from f32's on calibration pictures.")
    });
    page.paragraph(&format!(
        "An int8 network that takes {height} x {width} pixels and gives {gives}, with {} layers of weights.{distance}",
        report.layers.len()
    ));
    for note in &report.notes {
        page.html(format_args!("<p class=\"note\">{}</p>", escaped(note)));
    }
}

fn accuracies(page: &mut Page, accuracy: &Accuracy) {
    page.heading("Accuracy");
    let row = |name: &str, own: &OwnAccuracy| {
        vec![
            name.to_owned(),
            with_interval(own.top1),
            with_interval(own.top5),
            format!("{:.3}", own.calibration_error),
        ]
    };
    let mut rows = vec![];
    rows.extend(accuracy.float.iter().map(|(float, _)| row("f32", float)));
    rows.push(row("int8", &accuracy.int8));
    let header = ["network", "top-1", "top-5", "calibration error"];
    page.table(&header, rows);
    page.html(format_args!(
        "<p class=\"note\">On {} pictures; in brackets where the share on all pictures of this kind lies 95 times of \
         100 (Wilson).</p>",
        accuracy.images.len()
    ));
    let Some((_, compared)) = &accuracy.float else { return };
    let points = |difference: Difference| {
        format!(
            "{:+.2} points ({:+.2} to {:+.2})",
            difference.value * 100.0,
            difference.low * 100.0,
            difference.high * 100.0
        )
    };
    let right = &compared.right;
    let entry = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
    page.table(
        &["int8 against f32", ""],
        [
            entry("same best class", &with_interval(compared.agreement)),
            entry("top-1 lost", &points(right.difference())),
            entry("only f32 is right, only int8 is", &format!("{}, {}", right.first, right.second)),
            entry("probability of this if neither is better", &format!("{:.3}", right.probability())),
            entry("SQNR of the logits", &format!("{:.2} dB", compared.sqnr_db)),
            entry("SQNR without each picture's mean", &format!("{:.2} dB", compared.centred_sqnr_db)),
            entry(
                "mean distance of f32's best probability",
                &format!("{:.4}", compared.probability_distance),
            ),
        ],
    );
    page.html(
        "<p class=\"note\">Both networks saw the same pictures, so the interval of what is lost is Newcombe's for \
         pairs, and the probability that of McNemar's exact test.</p>",
    );
}

fn changes(page: &mut Page, compared: &Compared, labels: &Labels, images: &[TaggedImage]) {
    if compared.changed.is_empty() {
        return;
    }
    page.heading("Changed decisions");
    let name = |class: usize| escaped(labels.name(class).unwrap_or_default());
    let side =
        |(class, probability): (usize, f32)| format!("{} ({})", name(class), percent(f64::from(probability)));
    for changed in compared.changed.iter().take(SHOWN) {
        let Changed { picture, float, int8 } = changed;
        let Some(image) = images.get(*picture) else { continue };
        let file = image.path.file_name().unwrap_or_default().to_string_lossy();
        let shows: Vec<String> = image.classes.iter().take(NAMED).map(|&class| name(class)).collect();
        let caption = format!(
            "{}<br>shows {}<br>f32: {}<br>int8: {}",
            escaped(&file),
            shows.join(", "),
            side(*float),
            side(*int8)
        );
        page.thumbnail(&image.path, &caption);
    }
    if compared.changed.len() > SHOWN {
        page.paragraph(&format!("and {} more", compared.changed.len() - SHOWN));
    }
}

fn probabilities(page: &mut Page, accuracy: &Accuracy) {
    page.heading("What probabilities mean");
    let none = vec![];
    let float = accuracy.float.as_ref().map_or(&none, |(float, _)| &float.reliability);
    page.html(format_args!(
        "<figure class=\"plot\">{}</figure>",
        reliability(&accuracy.int8.reliability, float)
    ));
    page.html(format_args!(
        "<p class=\"note\">Of {} that are said with some probability (across), how many are right (up){}. On the \
         diagonal probabilities are what they say; below it the network is too sure of itself.</p>",
        if accuracy.independent { "classes" } else { "best classes" },
        if float.is_empty() { "" } else { "; f32 is dashed" }
    ));
}

/// The error by layer that was found when the model was made.
fn errors(page: &mut Page, report: &Value) {
    let Some(layers) = report["layers"].as_array().filter(|layers| !layers.is_empty()) else { return };
    let chart = |key: &str| {
        let bar = |layer: &Value| Bar {
            name: layer["name"].as_str().unwrap_or_default().to_owned(),
            value: layer[key].as_f64(),
        };
        bars(&layers.iter().take(LAYERS).map(bar).collect::<Vec<Bar>>(), "decibel")
    };
    page.heading("Error by layer");
    page.paragraph(
        "Signal to noise ratio of each layer's output against f32's, decibel, with all layers before it in int8: \
         6 dB less is twice the error.",
    );
    page.html(format_args!("<figure class=\"plot\">{}</figure>", chart("output_sqnr_db")));
    page.html(format_args!(
        "<details><summary>Of the weights alone</summary><figure class=\"plot\">{}</figure></details>",
        chart("weights_sqnr_db")
    ));
}

fn values(page: &mut Page, report: &ModelReport<'_>) {
    page.heading("Weights and activations");
    page.html(
        "<p class=\"note\">The height is the root of the count, so that what is rare is seen. Weights are in steps of \
         their row's scale; activations over the range that int8 covers. A high bar at an end is what was cut off, \
         or behind a ReLU, at the lower end, zero.</p>",
    );
    let reported = report.model.report()["layers"].as_array();
    let layer = |layer: &LayerValues| {
        let entry = reported.and_then(|all| all.iter().find(|entry| entry["name"] == layer.name.as_str()));
        let outputs = match (&layer.outputs, entry) {
            (Some(counts), Some(entry)) => activations(counts, entry),
            _ => vec![String::new(); 3],
        };
        let mut cells = vec![escaped(&layer.name), histogram(&layer.weights, -128.0, 127.0)];
        cells.extend(outputs);
        cells
    };
    let with_outputs = report.layers.iter().any(|layer| layer.outputs.is_some());
    let header = ["layer", "weights", "activations", "cut off", "seen in calibration"];
    let count = if with_outputs { header.len() } else { 2 };
    let rows = report.layers.iter().take(LAYERS).map(|one| layer(one)[..count].to_vec());
    page.table(&header[..count], rows);
    if report.layers.len() > LAYERS {
        page.paragraph(&format!("and {} more layers", report.layers.len() - LAYERS));
    }
}

/// Histogram, share that was cut off, and what was seen in calibration.
fn activations(counts: &Counts, entry: &Value) -> Vec<String> {
    let scale = entry["scale"].as_f64().unwrap_or(1.0);
    let zero_point = entry["zero_point"].as_f64().unwrap_or(0.0);
    let [low, high] = [-128.0, 127.0].map(|step| scale * (step - zero_point));
    let [below, above] = at_the_ends(counts);
    // Behind a ReLU the lower end is zero, where most values are and nothing is lost.
    let cut_off = if zero_point <= -128.0 { above } else { below + above };
    let seen = |index: usize| entry["observed"][index].as_f64().unwrap_or(0.0);
    vec![
        histogram(&counts[..BINS], low, high),
        format!("≤ {:.3} %", cut_off * 100.0),
        format!("{:.2} to {:.2}", seen(0), seen(1)),
    ]
}

fn provenance(page: &mut Page, report: &ModelReport<'_>) {
    page.heading("Where it is from");
    let model = report.model;
    let provenance = model.provenance();
    let mut entries = vec![
        ("file", Path::new(model.file()).file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ("source", provenance.source.clone()),
        ("sha256 of the source", provenance.source_sha256.clone()),
        ("made by", provenance.tool.clone()),
    ];
    if let Some(calibration) = &provenance.calibration {
        entries.push(("calibrated on", format!("{} pictures", calibration.images)));
        entries.push(("sha256 of the pictures", calibration.sha256.clone()));
        entries.push(("method", calibration.method.clone()));
    }
    for (name, key) in [("rounding", "rounding"), ("temperature", "temperature")] {
        match &model.report()[key] {
            Value::String(text) => entries.push((name, text.clone())),
            Value::Number(number) => entries.push((name, format!("{:.4}", number.as_f64().unwrap_or(1.0)))),
            _ => {}
        }
    }
    let signed = model.signer().map_or("by nobody".to_owned(), |key| format!("by key {}", key.fingerprint()));
    entries.push(("signed", signed));
    page.html("<dl>");
    for (name, value) in entries {
        page.html(format_args!("<dt>{name}<dd>{}", escaped(&value)));
    }
    page.html("</dl>");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn zeros_behind_a_relu_are_not_cut_off() {
        let mut counts = [0; BINS];
        (counts[0], counts[BINS - 1], counts[5]) = (800, 10, 190);
        let relu = json!({ "scale": 0.1, "zero_point": -128, "observed": [0.0, 30.0] });
        assert_eq!(activations(&counts, &relu)[1..], ["≤ 1.000 %", "0.00 to 30.00"]);
        let signed = json!({ "scale": 0.1, "zero_point": 0, "observed": [-5.0, 5.0] });
        assert_eq!(activations(&counts, &signed)[1], "≤ 81.000 %");
    }

    #[test]
    fn a_report_without_layers_has_no_chart() {
        let mut page = Page::new("title", "heading");
        let empty = page.bytes();
        errors(&mut page, &json!({}));
        assert_eq!(page.bytes(), empty);
        errors(
            &mut page,
            &json!({ "layers": [{ "name": "stem", "output_sqnr_db": 30.0, "weights_sqnr_db": 40.0 }] }),
        );
        assert!(page.bytes() > empty);
    }

    #[test]
    fn shares_are_those_of_the_teaching_report() {
        assert_eq!(
            with_interval(resight_teach::Share { value: 0.5, low: 0.25, high: 0.75 }),
            "50.0 % (25.0 to 75.0)"
        );
    }
}
