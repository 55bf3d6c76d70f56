//! The report of teaching as one HTML file, with thumbnails of what went wrong.

use std::path::{Path, PathBuf};

use resight_base::files::FileError;
use resight_teach::{Comparison, Figures, Share};

use super::job::Taught;
use super::normal::Normal;
use crate::page::{Page, escaped, percent};

/// Thumbnails of each kind.
const SHOWN: usize = 60;

/// Writes the report.
///
/// # Errors
/// A file that cannot be written.
pub fn write(taught: &Taught, output: &Path) -> Result<(), FileError> {
    page(taught).write(output)
}

/// `88.5 % (79.1 to 94.2)`.
pub fn with_interval(share: Share) -> String {
    format!("{:.1} % ({:.1} to {:.1})", share.value * 100.0, share.low * 100.0, share.high * 100.0)
}

fn page(taught: &Taught) -> Page {
    let mut page = Page::new("resight teach", "What was taught");
    figures(&mut page, &taught.report.figures, &taught.report.backbone);
    thumbnails(&mut page, taught, "Perhaps in the wrong folder", &taught.suspicious());
    thumbnails(&mut page, taught, "Taken for something else", &taught.wrong());
    notes(&mut page, &taught.notes);
    page
}

fn notes(page: &mut Page, notes: &[String]) {
    if !notes.is_empty() {
        page.heading("Notes");
        page.html("<ul>");
        for note in notes {
            page.html(format_args!("<li>{}", escaped(note)));
        }
        page.html("</ul>");
    }
}

/// Writes the report of an inspection.
///
/// # Errors
/// A file that cannot be written.
pub fn write_inspection(normal: &Normal, output: &Path) -> Result<(), FileError> {
    inspection(normal).write(output)
}

fn inspection(normal: &Normal) -> Page {
    let figures = &normal.report.figures;
    let compared = match figures.comparison {
        Comparison::Places => "the same place of the good parts",
        Comparison::Patches => "patches from anywhere in the good parts",
    };
    let mut page = Page::new("resight teach", "What is typical");
    page.html(format_args!(
        "<p>{} photographs of good parts, in {} groups; backbone {}. Each of {} x {} places is compared with {compared}. \
         Of good parts that were not learnt from (cross-validation in {} folds) <b>{}</b> are taken for defects.</p>",
        figures.photographs,
        figures.groups,
        escaped(&normal.report.backbone),
        figures.places[1],
        figures.places[0],
        figures.folds,
        with_interval(figures.false_alarms)
    ));
    if let Some(defects) = figures.defects {
        page.heading("Defects");
        page.html(format_args!(
            "<p>Of {} defects, none of which was learnt from, and the good parts: AUROC <b>{}</b>. With a threshold from \
             the other half of both, {} of the defects are found, and {} of the good parts are taken for defects.</p>",
            defects.photographs,
            percent(defects.auroc),
            with_interval(defects.found),
            with_interval(defects.false_alarms)
        ));
    }
    let sorted = |photographs: &[(PathBuf, f64)], farthest: bool| {
        let mut order = photographs.to_vec();
        order.sort_by(|a, b| if farthest { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) });
        order
    };
    distances(&mut page, "Good parts, the farthest first", &sorted(&normal.good, true));
    distances(&mut page, "Defects, the nearest first", &sorted(&normal.defects, false));
    notes(&mut page, &normal.notes);
    page
}

/// Thumbnails with their distances in thresholds.
fn distances(page: &mut Page, heading: &str, photographs: &[(PathBuf, f64)]) {
    if photographs.is_empty() {
        return;
    }
    page.heading(heading);
    for (path, distance) in photographs.iter().take(SHOWN) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        page.thumbnail(path, &format!("{}<br>{distance:.2} thresholds", escaped(&file)));
    }
    if photographs.len() > SHOWN {
        page.paragraph(&format!("and {} more", photographs.len() - SHOWN));
    }
}

/// What teaching found out, as far as the model file holds it.
pub fn figures(page: &mut Page, figures: &Figures, backbone: &str) {
    page.html(format_args!(
        "<p>{} photographs of {} classes, in {} groups; backbone {}. On photographs that were not learnt from \
         (cross-validation in {} folds) <b>{}</b> are recognised; the interval is what to expect of as many other \
         photographs, 95 times of 100.</p>",
        figures.photographs,
        figures.classes.len(),
        figures.groups,
        escaped(backbone),
        figures.folds,
        with_interval(figures.accuracy)
    ));
    page.heading("Classes");
    let class = |class: &resight_teach::ClassFigures| {
        vec![
            escaped(&class.name),
            class.photographs.to_string(),
            with_interval(class.recall),
            class.precision.map_or("-".to_owned(), percent),
            format!("{:.3}", class.threshold),
            percent(class.recall_at_threshold),
            class
                .photographs_for_half_the_errors
                .map_or(String::new(), |count| format!("about {count} photographs")),
        ]
    };
    let header = [
        "class",
        "photographs",
        "recognised (recall)",
        "precision",
        "threshold",
        "recall there",
        "for half the errors",
    ];
    page.table(&header, figures.classes.iter().map(class));
    page.heading("What is taken for what");
    page.html("<div class=\"wide\"><table><tr><th>");
    figures.classes.iter().for_each(|class| page.html(format_args!("<th>{}", escaped(&class.name))));
    page.html("</tr>");
    for (row, (counts, class)) in figures.confusion.iter().zip(&figures.classes).enumerate() {
        page.html(format_args!("<tr><td>{}", escaped(&class.name)));
        for (column, count) in counts.iter().enumerate() {
            let class = if row == column { " class=\"right\"" } else { "" };
            page.html(format_args!("<td{class}>{count}"));
        }
        page.html("</tr>");
    }
    page.html("</table></div>");
    page.heading("More photographs");
    let point = |(part, accuracy): &(f64, f64)| vec![format!("{:.0} %", part * 100.0), percent(*accuracy)];
    page.table(&["learnt from", "recognised"], figures.learning_curve.iter().map(point));
    if let Some(unknown) = figures.unknown {
        page.heading("None of these");
        page.html(format_args!(
            "<p>A picture is <b>unknown</b> whose mean cosine to the nearest of {} taught pictures is below {:.4} \
             (half of the photographs are above {:.4}); {} of the photographs are rejected so.</p>",
            unknown.pictures,
            unknown.threshold,
            unknown.median,
            percent(unknown.rejected)
        ));
    }
}

fn thumbnails(page: &mut Page, taught: &Taught, heading: &str, photographs: &[usize]) {
    if photographs.is_empty() {
        return;
    }
    page.heading(heading);
    let names = &taught.report.figures.classes;
    for &index in photographs.iter().take(SHOWN) {
        let held_out = &taught.held_out[index];
        let (class, best) = (taught.classes[index], held_out.best());
        let file = taught.files[index].file_name().unwrap_or_default().to_string_lossy();
        let caption = format!(
            "{}<br>{}, taken for {} ({})",
            escaped(&file),
            escaped(&names[class].name),
            escaped(&names[best].name),
            percent(held_out.probabilities[best])
        );
        page.thumbnail(&taught.files[index], &caption);
    }
    if photographs.len() > SHOWN {
        page.paragraph(&format!("and {} more", photographs.len() - SHOWN));
    }
}
