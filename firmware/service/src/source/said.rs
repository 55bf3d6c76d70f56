//! What a program says on its standard error: the last lines, in bounded memory.

use std::collections::VecDeque;

use resight_base::text::printable;

/// Lines that are kept.
const LINES: usize = 6;

/// Bytes of a line; what is longer is cut in two.
const LONGEST: usize = 500;

/// The last lines.
#[derive(Debug, Default)]
pub(super) struct Said {
    lines: VecDeque<String>,
    /// The begin of the next one.
    begin: Vec<u8>,
}

impl Said {
    /// Takes what was read, and gives each line that is whole now to `each`.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for byte in bytes {
            // Progress is written over and over in one line.
            let ends = matches!(byte, b'\n' | b'\r');
            if !ends {
                self.begin.push(*byte);
            }
            if (ends || self.begin.len() == LONGEST) && self.finish() {
                each(self.lines.back().map_or("", String::as_str));
            }
        }
    }

    /// There will be no more. `false` if the line was empty.
    pub(super) fn finish(&mut self) -> bool {
        let text = printable(&without_password(String::from_utf8_lossy(&self.begin).trim()));
        self.begin.clear();
        if text.is_empty() {
            return false;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
        true
    }

    /// All that is kept, in one line; empty if there is nothing.
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }
}

/// Without what stands before an `@` in an address: programs repeat the addresses that they were given.
fn without_password(text: &str) -> String {
    let mut parts = text.split("://");
    let mut found = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|end: char| end.is_whitespace() || "/?#'\"".contains(end)).unwrap_or(part.len());
        let begin = part[..end].rfind('@').unwrap_or(0);
        found.push_str("://");
        found.push_str(if begin > 0 { "…" } else { "" });
        found.push_str(&part[begin..]);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let (mut said, mut told) = (Said::default(), vec![]);
        for number in 0..20 {
            said.push(format!("line {number}\r\n\n").as_bytes(), |line| told.push(line.to_owned()));
        }
        assert_eq!((told.len(), told[19].as_str()), (20, "line 19"));
        said.push(b"the \xffend", |_| panic!("no whole line"));
        assert!(said.finish() && !said.finish());
        assert_eq!(said.text(), "line 15 | line 16 | line 17 | line 18 | line 19 | the \u{fffd}end");
        // A line without end, of a program that writes frames there.
        let mut count = 0;
        said.push(&vec![b'x'; 1 << 20], |_| count += 1);
        assert_eq!(count, (1 << 20) / LONGEST);
        assert!(said.text().len() < LINES * 300, "{}", said.text().len());
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (text, expected) in [
            (
                "Error opening rtsp://user:s3cret@10.0.0.7:554/a@b.",
                "Error opening rtsp://…@10.0.0.7:554/a@b.",
            ),
            ("a http://x/y?z=q@w, rtsp://u:p@h", "a http://x/y?z=q@w, rtsp://…@h"),
            ("[rtsp @ 0x55] 401 Unauthorized", "[rtsp @ 0x55] 401 Unauthorized"),
            ("'rtsp://u:p@ss@h'", "'rtsp://…@h'"),
        ] {
            assert_eq!(without_password(text), expected);
        }
    }
}
