//! Standard output and standard error of a command.
//!
//! `println!` panics when nobody reads any more, as after `| head -1`. Here that is an error of its
//! own, which ends a command quietly, and a full disk behind `>` is one with a message.

use std::fmt;
use std::io::{self, Write};

/// Why a command cannot go on printing.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Its reader has closed it: there is nothing more to do, and nothing to complain about.
    #[error("standard output is closed")]
    Closed,
    /// It takes no more, for example because a disk is full.
    #[error("standard output: cannot write: {0}")]
    Write(#[source] io::Error),
}

impl OutputError {
    fn of(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Write(error) }
    }
}

/// Writes text to standard output, down to the reader.
///
/// # Errors
/// A standard output that is closed or takes no more.
pub fn print(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    write_to(&mut io::stdout().lock(), text)
}

/// The same with a line break behind the text.
///
/// # Errors
/// As [`print`](print()).
pub fn print_line(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// Writes a line to standard error. Where that is closed there is nobody to tell.
pub fn complain(text: fmt::Arguments<'_>) {
    // In one piece, so that lines of several processes do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Whether a command ended with `causes` only because nobody reads its output any more.
pub fn is_closed<'a>(causes: impl IntoIterator<Item = &'a (dyn std::error::Error + 'static)>) -> bool {
    causes.into_iter().any(|cause| matches!(cause.downcast_ref(), Some(OutputError::Closed)))
}

fn write_to(output: &mut impl Write, text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    output.write_fmt(text).and_then(|()| output.flush()).map_err(OutputError::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses everything with one kind of error.
    struct Refusing(io::ErrorKind);

    impl Write for Refusing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_output_is_told_from_a_full_disk() {
        let closed = write_to(&mut Refusing(io::ErrorKind::BrokenPipe), format_args!("a")).unwrap_err();
        assert!(is_closed([&closed as &(dyn std::error::Error + 'static)]));
        let full = write_to(&mut Refusing(io::ErrorKind::StorageFull), format_args!("a")).unwrap_err();
        assert!(!is_closed([&full as &(dyn std::error::Error + 'static)]));
        assert!(full.to_string().starts_with("standard output: cannot write: "), "{full}");
        // That of another pipe is an error like any other.
        let other = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_closed([&other as &(dyn std::error::Error + 'static)]));
    }

    #[test]
    fn text_comes_out_whole() {
        let mut output = vec![];
        write_to(&mut output, format_args!("{} {}\n", 1, "two")).unwrap();
        assert_eq!(output, b"1 two\n");
    }
}
