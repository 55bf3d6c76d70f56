//! The report of teaching as one HTML file, with thumbnails of what went wrong.

use std::fmt::Write as _;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use resight_base::files::{FileError, write_atomically};
use resight_imaging::decode;
use resight_teach::Share;

use super::job::Taught;

/// Longer side of a thumbnail in pixels.
const SIDE: u32 = 160;
/// Thumbnails of each kind.
const SHOWN: usize = 60;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
    color:#222;background:#fff}table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;\
    border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}\
    figure{display:inline-block;margin:.5rem;vertical-align:top;width:170px;font-size:.8rem;overflow-wrap:anywhere}\
    .right{background:#dfd}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}\
    td,th{border-color:#444}.right{background:#253525}}";

/// Writes the report.
///
/// # Errors
/// A file that cannot be written.
pub fn write(taught: &Taught, output: &Path) -> Result<(), FileError> {
    let text = html(taught);
    write_atomically(output, |file| std::io::Write::write_all(file, text.as_bytes()))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `88.5 % (79.1 to 94.2)`.
pub fn with_interval(share: Share) -> String {
    format!("{:.1} % ({:.1} to {:.1})", share.value * 100.0, share.low * 100.0, share.high * 100.0)
}

fn html(taught: &Taught) -> String {
    let report = &taught.report;
    let figures = &report.figures;
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>resight teach</title><style>{STYLE}</style>\
         <h1>What was taught</h1><p>{} photographs of {} classes, in {} groups; backbone {}. On photographs that \
         were not learnt from (cross-validation in {} folds) <b>{}</b> are recognised; the interval is what to \
         expect of as many other photographs, 95 times of 100.</p>",
        figures.photographs,
        figures.classes.len(),
        figures.groups,
        escaped(&report.backbone),
        figures.folds,
        with_interval(figures.accuracy)
    );
    page += "<h2>Classes</h2><table><tr><th>class<th>photographs<th>recognised (recall)<th>precision\
             <th>threshold<th>recall there<th>for half the errors</tr>";
    for class in &figures.classes {
        let _ = write!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.3}<td>{}<td>{}</tr>",
            escaped(&class.name),
            class.photographs,
            with_interval(class.recall),
            class.precision.map_or("-".to_owned(), percent),
            class.threshold,
            percent(class.recall_at_threshold),
            class
                .photographs_for_half_the_errors
                .map_or(String::new(), |count| format!("about {count} photographs"))
        );
    }
    page += "</table><h2>What is taken for what</h2><table><tr><th>";
    for class in &figures.classes {
        let _ = write!(page, "<th>{}", escaped(&class.name));
    }
    page += "</tr>";
    for (row, class) in figures.confusion.iter().zip(&figures.classes).enumerate() {
        let (counts, class) = class;
        let _ = write!(page, "<tr><td>{}", escaped(&class.name));
        for (column, count) in counts.iter().enumerate() {
            let class = if row == column { " class=\"right\"" } else { "" };
            let _ = write!(page, "<td{class}>{count}");
        }
        page += "</tr>";
    }
    page += "</table><h2>More photographs</h2><table><tr><th>learnt from<th>recognised</tr>";
    for (part, accuracy) in &figures.learning_curve {
        let _ = write!(page, "<tr><td>{:.0} %<td>{}</tr>", part * 100.0, percent(*accuracy));
    }
    page += "</table>";
    if let Some(unknown) = figures.unknown {
        let _ = write!(
            page,
            "<h2>None of these</h2><p>A picture is <b>unknown</b> whose mean cosine to the nearest of {} taught \
             pictures is below {:.4} (half of the photographs are above {:.4}); {} of the photographs are rejected \
             so.</p>",
            unknown.pictures,
            unknown.threshold,
            unknown.median,
            percent(unknown.rejected)
        );
    }
    thumbnails(&mut page, taught, "Perhaps in the wrong folder", &taught.suspicious());
    thumbnails(&mut page, taught, "Taken for something else", &taught.wrong());
    if !taught.notes.is_empty() {
        page += "<h2>Notes</h2><ul>";
        for note in &taught.notes {
            let _ = write!(page, "<li>{}", escaped(note));
        }
        page += "</ul>";
    }
    page + "</html>\n"
}

fn thumbnails(page: &mut String, taught: &Taught, heading: &str, photographs: &[usize]) {
    if photographs.is_empty() {
        return;
    }
    let _ = write!(page, "<h2>{heading}</h2>");
    let names = &taught.report.figures.classes;
    for &index in photographs.iter().take(SHOWN) {
        let held_out = &taught.held_out[index];
        let (class, best) = (taught.classes[index], held_out.best());
        let file = taught.files[index].file_name().unwrap_or_default().to_string_lossy();
        let _ = write!(
            page,
            "<figure>{}<figcaption>{}<br>{}, taken for {} ({})</figcaption></figure>",
            thumbnail(&taught.files[index]).unwrap_or_default(),
            escaped(&file),
            escaped(&names[class].name),
            escaped(&names[best].name),
            percent(held_out.probabilities[best])
        );
    }
    if photographs.len() > SHOWN {
        let _ = write!(page, "<p>and {} more", photographs.len() - SHOWN);
    }
}

fn thumbnail(path: &Path) -> Option<String> {
    let image = decode(path).ok()?;
    let factor = f64::from(SIDE) / f64::from(image.width().max(image.height()));
    let side = |length: u32| ((f64::from(length) * factor) as u32).max(1);
    let small = resize(&image, side(image.width()), side(image.height()), FilterType::Triangle);
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, 80).encode_image(&small).ok()?;
    Some(format!("<img alt=\"\" src=\"data:image/jpeg;base64,{}\">", base64(&bytes)))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let number = chunk.iter().fold(0, |number: u32, &byte| number << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
