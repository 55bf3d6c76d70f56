//! Pages that are one file: text, tables, plots and thumbnails, without a script and without anything
//! from elsewhere. Light or dark as the reader's system is, and fit to be printed and for phones.

pub mod chart;

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, resize};
use resight_base::files::{FileError, write_atomically};
use resight_imaging::decode;

/// Longer side of a thumbnail in pixels.
const SIDE: u32 = 160;

const STYLE: &str = ":root{color-scheme:light dark;--text:#222;--back:#fff;--line:#ddd;--soft:#667;--one:#2563a8;\
    --two:#b4541a;--right:#dfd}@media(prefers-color-scheme:dark){:root{--text:#ddd;--back:#181818;--line:#444;\
    --soft:#99a;--one:#6aa8e8;--two:#e8965c;--right:#253525}}*{box-sizing:border-box}\
    body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:var(--text);\
    background:var(--back);overflow-wrap:anywhere}.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0}\
    td,th{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:right;overflow-wrap:normal}\
    td:first-child,th:first-child{text-align:left}figure{display:inline-block;margin:.5rem;vertical-align:top;\
    width:170px;font-size:.8rem;overflow-wrap:anywhere}figure.plot{width:auto;max-width:100%}\
    .right{background:var(--right)}.note{color:var(--soft)}dl{display:grid;grid-template-columns:auto 1fr;gap:0 1rem}\
    dd{margin:0}svg{max-width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--text)}\
    svg .axis{stroke:var(--soft);fill:none}svg .grid{stroke:var(--line);fill:none}svg .one{fill:var(--one)}\
    svg .two{fill:var(--two)}svg .line-one{stroke:var(--one);fill:none;stroke-width:2}\
    svg .line-two{stroke:var(--two);fill:none;stroke-width:2;stroke-dasharray:5 3}\
    @media print{:root{color-scheme:light;--text:#000;--back:#fff;--line:#bbb;--soft:#555;--one:#2563a8;--two:#b4541a;\
    --right:#dfd}body{max-width:none;margin:0;font-size:11px}h2{break-after:avoid}figure,svg,tr{break-inside:avoid}\
    .wide{overflow:visible}}";

/// A page that is being written.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    /// A page with this title, which is its first heading too.
    pub fn new(title: &str, heading: &str) -> Self {
        Self(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{STYLE}</style><h1>{}</h1>",
            escaped(title),
            escaped(heading)
        ))
    }

    /// Adds HTML as it is.
    pub fn html(&mut self, html: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{html}");
    }

    /// Adds a heading.
    pub fn heading(&mut self, text: &str) {
        self.html(format_args!("<h2>{}</h2>", escaped(text)));
    }

    /// Adds a paragraph of plain text.
    pub fn paragraph(&mut self, text: &str) {
        self.html(format_args!("<p>{}</p>", escaped(text)));
    }

    /// Adds a table whose first column is aligned left; the cells are HTML.
    pub fn table(&mut self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        self.html("<div class=\"wide\"><table><tr>");
        for cell in header {
            self.html(format_args!("<th>{cell}"));
        }
        self.html("</tr>");
        for row in rows {
            self.html("<tr>");
            for cell in row {
                self.html(format_args!("<td>{cell}"));
            }
            self.html("</tr>");
        }
        self.html("</table></div>");
    }

    /// Adds the picture in a file, small, with what is HTML below it; the text alone if it cannot be
    /// read any more.
    pub fn thumbnail(&mut self, path: &Path, caption: &str) {
        let picture = thumbnail(path).unwrap_or_default();
        self.html(format_args!("<figure>{picture}<figcaption>{caption}</figcaption></figure>"));
    }

    /// Writes the page.
    ///
    /// # Errors
    /// A file that cannot be written; then nothing is left behind.
    pub fn write(&self, output: &Path) -> Result<(), FileError> {
        write_atomically(output, |file| {
            std::io::Write::write_all(file, self.0.as_bytes())?;
            std::io::Write::write_all(file, b"</html>\n")
        })
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len() + "</html>\n".len()
    }
}

fn thumbnail(path: &Path) -> Option<String> {
    let image = decode(path).ok()?;
    let factor = f64::from(SIDE) / f64::from(image.width().max(image.height()));
    let side = |length: u32| ((f64::from(length) * factor) as u32).max(1);
    let small = resize(&image, side(image.width()), side(image.height()), FilterType::Triangle);
    let mut bytes = vec![];
    JpegEncoder::new_with_quality(&mut bytes, 80).encode_image(&small).ok()?;
    Some(format!("<img alt=\"\" src=\"data:image/jpeg;base64,{}\">", STANDARD.encode(&bytes)))
}

/// A share as `88.5 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Text as HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_text_is_no_markup() {
        let mut page = Page::new("<script>", "a & \"b\"");
        page.paragraph("1 < 2");
        page.table(&["name"], [vec![escaped("<b>")]]);
        assert!(!page.0.contains("<script>") && !page.0.contains("<b>"), "{}", page.0);
        assert!(page.0.contains("a &amp; &quot;b&quot;") && page.0.contains("1 &lt; 2"), "{}", page.0);
    }

    #[test]
    fn a_page_asks_nobody_for_anything() {
        let page = Page::new("title", "heading");
        for word in ["http", "<script", "@import", "url("] {
            assert!(!page.0.contains(word), "{word}");
        }
    }

    #[test]
    fn a_picture_that_is_gone_leaves_its_text() {
        let mut page = Page::new("title", "heading");
        page.thumbnail(Path::new("/nowhere/at/all.png"), "caption");
        assert!(page.0.ends_with("<figure><figcaption>caption</figcaption></figure>"), "{}", page.0);
    }
}
