//! Text for people and text from files.

use crate::files::FileError;

/// `text` without anything that would break a one-line message: control characters are
/// escaped and long text is cut.
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 240;
    let mut result: String = text.chars().take(LONGEST).flat_map(escape).collect();
    if text.chars().nth(LONGEST).is_some() {
        result.push('…');
    }
    result
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = (!character.is_control()).then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The lines of a text, trimmed, without the blank ones at the end and without byte order
/// marks; `file` is for messages.
///
/// # Errors
/// A line that is not UTF-8 or has control characters.
pub fn lines(file: &str, text: &[u8]) -> Result<Vec<String>, FileError> {
    let mut lines = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |cause: &str| FileError::line(file, index + 1, cause);
        let line = str::from_utf8(line).map_err(|_| wrong("not UTF-8 text"))?;
        // Files put together from others have several.
        let line = line.replace('\u{feff}', "");
        let line = line.trim();
        if line.chars().any(|character| character.is_control() && character != '\t') {
            return Err(wrong("control characters: this is no text file"));
        }
        lines.push(line.to_string());
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_is_one_line_of_bounded_length() {
        assert_eq!(printable("a\nb\u{7f}ü"), "a\\nb\\u{7f}ü");
        let long = printable(&"x".repeat(1000));
        assert_eq!(long, format!("{}…", "x".repeat(240)));
        assert_eq!(printable(&"x".repeat(240)), "x".repeat(240));
    }

    #[test]
    fn lines_are_trimmed_and_blank_ones_at_the_end_dropped() {
        let text = "\u{feff}a \r\n\n\u{feff}b\tc\n\r\n \n".as_bytes();
        assert_eq!(lines("names", text).unwrap(), ["a", "", "b\tc"]);
        assert!(lines("names", b"\n\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let refusal = |text: &[u8]| lines("names", text).unwrap_err().to_string();
        assert_eq!(refusal(b"a\n\xff"), "names, line 2: not UTF-8 text");
        assert_eq!(refusal(b"a\0"), "names, line 1: control characters: this is no text file");
    }
}
