//! The page: files in the binary, without anything from elsewhere.

use super::response::{Answer, whole};

const FILES: [(&str, &str, &[u8]); 5] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_bytes!("../../page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_bytes!("../../page/page.js")),
    ("/zones.js", "text/javascript; charset=utf-8", include_bytes!("../../page/zones.js")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../../page/icon.svg")),
];

/// A file of the page. It holds nothing of the board, so everybody may have it, without a token.
pub(super) fn file(path: &str) -> Option<Answer> {
    let (_, kind, bytes) = FILES.into_iter().find(|(name, ..)| *name == path)?;
    Some(whole(200, kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a board must spare for the page, in bytes.
    const MOST: usize = 150_000;

    #[test]
    fn the_page_is_small_and_needs_nothing_from_elsewhere() {
        let size: usize = FILES.iter().map(|(.., bytes)| bytes.len()).sum();
        assert!(size <= MOST, "{size}");
        println!("the page has {size} bytes");
        for (name, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("://"), "{name}");
            // What the content security policy forbids would only fail in the browser.
            for inline in ["<style", "style=", "onclick=", "javascript:", "eval(", "innerHTML"] {
                assert!(!text.contains(inline), "{name}: {inline}");
            }
        }
    }
}
