//! Labels.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use resight_base::files::FileError;
use resight_model_file::{Labels, ModelFileError};

fn parse(text: &[u8]) -> Result<Labels, ModelFileError> {
    Labels::parse("labels.txt", text).inspect_err(|error| {
        let message = error.to_string();
        assert!(message.starts_with("labels.txt") && !message.contains('\n'), "{message}");
    })
}

#[test]
fn labels_with_wordnet_ids() {
    let text = b"n01440764 tench, Tinca tinca\nn01484850\tgreat_white_shark\n";
    let labels = parse(text).unwrap();
    assert_eq!(labels.len(), 2);
    assert!(!labels.is_empty());
    assert_eq!(labels.name(0), Some("tench, Tinca tinca"));
    assert_eq!(labels.name(1), Some("great white shark"));
    assert_eq!(labels.name(2), None);
    assert_eq!(labels.wordnet_id(1), Some("n01484850"));
    assert_eq!(labels.wordnet_id(2), None);
    assert_eq!(parse(labels.to_text().as_bytes()).unwrap(), labels);
}

#[test]
fn plain_labels_in_any_text_file() {
    let plain = parse(b"cat\ntraffic_light\n").unwrap();
    assert_eq!(plain.name(1), Some("traffic light"));
    assert_eq!(plain.wordnet_id(1), None);
    for text in [
        "cat\r\ntraffic_light\r\n",
        "\u{feff}cat\ntraffic_light",
        "cat\ntraffic_light\n\n  \n\r\n",
        "  cat \n\ttraffic light\t\n",
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap(), plain, "{text:?}");
    }
    assert_eq!(parse("naïve\n猫\n".as_bytes()).unwrap().name(1), Some("猫"));
    // What would be an id after the underscore is one.
    assert_eq!(parse(b"_n01440764 tench\n").unwrap().wordnet_id(0), Some("n01440764"));
    assert_eq!(parse(" \u{feff}cat\n".as_bytes()).unwrap().name(0), Some("cat"));
    // Words that only begin like an id.
    assert_eq!(parse(b"n0144 x\nnight\n").unwrap().name(0), Some("n0144 x"));
}

#[test]
fn wrong_labels_are_refused_with_file_and_line() {
    for (text, expected) in [
        (b"".as_slice(), "labels.txt: no labels"),
        (b"\n \r\n", "labels.txt: no labels"),
        (b"\xef\xbb\xbf", "labels.txt: no labels"),
        (b"cat\n\ndog\n", "labels.txt, line 2: a blank line"),
        (b"cat\nd\xf6g\n", "labels.txt, line 2: not UTF-8"),
        (b"cat\nd\0g\n", "labels.txt, line 2: control characters"),
        (b"n01440764 tench\ndog\n", "labels.txt, line 2: `dog`: either every line"),
        (b"dog\nn01440764 tench\n", "labels.txt, line 2: `n01440764 tench`: either every line"),
        (b"n01440764 a\nn01440765 b\nn01440764 c\n", "labels.txt, line 3: n01440764 stands in line 1"),
        (b"n01440764\n", "labels.txt, line 1: a class without a name"),
        (b"cat\n_\ndog\n", "labels.txt, line 2: a blank line"),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    let missing = Labels::read(Path::new("no/labels.txt")).unwrap_err();
    assert!(matches!(missing, ModelFileError::File(FileError::System { .. })), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    assert!(Labels::read(folder.path()).unwrap_err().to_string().contains("not a regular file"));
    let huge = folder.path().join("huge.txt");
    fs::File::create(&huge).unwrap().set_len((16 << 20) + 1).unwrap();
    assert!(Labels::read(&huge).unwrap_err().to_string().contains("over 16 MiB"));
    fs::write(&huge, "cat\n").unwrap();
    assert_eq!(Labels::read(&huge).unwrap().len(), 1);
}

#[test]
fn patterns_find_classes() {
    let labels = parse(
        b"n01440764 tench, Tinca tinca\nn02012849 crane\nn02124075 Egyptian_cat\nn03126707 crane\nn02127052 lynx, catamount\n",
    )
    .unwrap();
    for (pattern, expected) in [
        ("tench", [0].as_slice()),
        ("TINCA tinca", &[0]),
        ("tench, tinca_tinca", &[0]),
        ("crane", &[1, 3]),
        ("n03126707", &[3]),
        ("N03126707", &[3]),
        ("egyptian cat", &[2]),
        ("cat", &[]),
        ("*cat", &[2]),
        ("*cat*", &[2, 4]),
        ("cat*", &[4]),
        ("n02*", &[1, 2, 4]),
        ("*n*n*", &[0, 4]),
        ("*", &[0, 1, 2, 3, 4]),
        ("**", &[0, 1, 2, 3, 4]),
        ("", &[]),
        ("tench*x", &[]),
    ] {
        assert_eq!(labels.find(pattern), expected, "{pattern:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics_and_what_parses_survives(
        text in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'_'), Just(b' '), Just(b'n'), b'0'..=b'9', any::<u8>()], 0..200),
        pattern in "[a-n0-9*_ ]{0,8}",
    ) {
        if let Ok(labels) = parse(&text) {
            prop_assert!(!labels.is_empty());
            labels.find(&pattern);
            prop_assert_eq!(parse(labels.to_text().as_bytes()).unwrap(), labels);
        }
    }

    #[test]
    fn a_pattern_with_stars_fits_what_it_was_made_from(
        first in "[a-c]{1,3}",
        rest in prop::collection::vec("[a-c]{0,3}", 0..4),
        fill in prop::collection::vec("[a-c]{0,3}", 4),
    ) {
        let parts: Vec<String> = std::iter::once(first).chain(rest).collect();
        let text: String = parts
            .iter()
            .enumerate()
            .map(|(index, part)| if index == 0 { part.clone() } else { format!("{}{part}", fill[index - 1]) })
            .collect();
        let labels = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(labels.find(&parts.join("*")), [0], "{} {}", parts.join("*"), text);
        let missing = format!("{}d", parts.join("*"));
        prop_assert!(labels.find(&missing).is_empty());
    }
}
