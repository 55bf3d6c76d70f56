//! Between whoever logs and standard error, which may take nothing for ever: a terminal that is
//! stopped, a pipe that nobody reads, a journal that hangs. Nobody but this thread waits for it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sync::lock;

/// Most bytes that wait; what does not fit is lost and counted.
const MOST: usize = 256 << 10;

/// How long a reader of the log may take nothing before the end does not wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    /// Bytes of `lines`.
    bytes: usize,
    lost: u64,
    /// Whether the thread is writing what it took.
    writing: bool,
    /// How much was written.
    written: u64,
}

/// Text on its way.
#[derive(Default)]
pub(crate) struct LogQueue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

impl LogQueue {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// A system without room for a thread.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        thread::Builder::new().name("log".into()).stack_size(128 << 10).spawn({
            let queue = queue.clone();
            move || queue.write_to(output)
        })?;
        Ok(queue)
    }

    /// Takes lines; never waits for who reads them.
    pub(crate) fn push(&self, text: Vec<u8>) {
        let mut state = lock(&self.state);
        if state.bytes + text.len() > MOST {
            state.lost += 1;
            return;
        }
        state.bytes += text.len();
        state.lines.push_back(text);
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until everything is written, or until nothing was for a second.
    pub(crate) fn flush(&self) {
        let mut state = lock(&self.state);
        let (mut written, mut deadline) = (state.written, Instant::now() + PATIENCE);
        while !state.lines.is_empty() || state.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            (state, _) = self.emptied.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            if state.written != written {
                (written, deadline) = (state.written, Instant::now() + PATIENCE);
            }
        }
    }

    fn write_to(&self, mut output: impl Write) {
        loop {
            let state = lock(&self.state);
            let idle = |state: &mut State| state.lines.is_empty();
            let mut state = self.filled.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let text = state.lines.pop_front().unwrap_or_default();
            state.bytes -= text.len();
            state.writing = true;
            let lost = std::mem::take(&mut state.lost);
            drop(state);
            // Nobody is left to tell of a failure.
            let _ = output.write_all(&text).and_then(|()| output.flush());
            if lost > 0 {
                let _ = writeln!(output, "resightd: {lost} messages were lost here: nobody read the log");
            }
            let mut state = lock(&self.state);
            state.writing = false;
            state.written += 1;
            drop(state);
            self.emptied.notify_all();
        }
    }
}

/// Writes whole records into a queue.
pub(crate) struct Pipe(pub(crate) Arc<LogQueue>);

impl Write for Pipe {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.push(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn whoever_logs_waits_for_no_reader_and_what_was_lost_is_told() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let queue = LogQueue::start(writer).unwrap();
        let line = |number: usize| format!("{number:09}\n").into_bytes();
        // Far more than the socket and the queue take.
        let count = (MOST + (8 << 20)) / 10;
        let start = Instant::now();
        (0..count).for_each(|number| queue.push(line(number)));
        queue.flush();
        assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
        reader.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let (mut text, mut chunk) = (String::new(), [0; 8192]);
        while !text.contains("messages were lost here") {
            let length = reader.read(&mut chunk).unwrap();
            assert!(length > 0);
            text.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
        }
        // In order from the first; what is left out is counted.
        let (before, rest) = text.split_once("resightd: ").unwrap();
        let numbers: Vec<usize> = before.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().enumerate().all(|(index, number)| index == *number));
        let lost: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert!(lost > 0 && numbers.len() + lost <= count, "{} and {lost} of {count}", numbers.len());
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let (mut reader, writer) = io::pipe().unwrap();
        let queue = LogQueue::start(writer).unwrap();
        (0..1000).for_each(|_| queue.push(b"line\n".to_vec()));
        queue.flush();
        // What is there now, in one read.
        let mut text = vec![0; 8192];
        let length = reader.read(&mut text).unwrap();
        assert_eq!(text[..length], b"line\n".repeat(1000));
    }
}
