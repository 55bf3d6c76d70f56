//! A ring of buffers between a driver and us.
//!
//! Each buffer belongs to the driver (queued) or to us. It is queued only when it is ours, and
//! it becomes ours only when the driver gives back one that was queued; whatever fails in
//! between, it keeps its owner and is queued at the next opportunity. Nothing waits without a
//! deadline.

use std::io;
use std::time::{Duration, Instant};

use super::format::Part;

/// Buffers that are asked for: one that is being filled, one that waits, one that is read, and
/// one for a late moment.
pub(super) const BUFFERS: u32 = 4;

/// Planes of a buffer at most.
pub(super) const MAX_PLANES: usize = 8;

/// What a driver does with buffers.
pub(super) trait Driver: Send {
    /// Asks for buffers and maps them. Gives how many there are.
    fn allocate(&mut self, count: u32) -> io::Result<usize>;
    /// Bytes of a plane of a buffer, as mapped.
    fn capacity(&self, buffer: usize, plane: usize) -> usize;
    /// Gives a buffer to the driver.
    fn queue(&mut self, buffer: usize) -> io::Result<()>;
    /// Takes a filled buffer; `WouldBlock` when there is none.
    fn dequeue(&mut self) -> io::Result<Filled>;
    /// Begins.
    fn start(&mut self) -> io::Result<()>;
    /// Waits for a buffer or an event.
    fn wait(&mut self, time: Duration) -> io::Result<Ready>;
    /// Takes the events that wait; whether one says that the format has changed.
    fn format_changed(&mut self) -> io::Result<bool>;
    /// Whether the format is still what was agreed on.
    fn same_format(&mut self) -> io::Result<bool>;
    /// Appends bytes of a buffer that is ours; within its capacity.
    fn read(&self, buffer: usize, plane: usize, from: usize, bytes: usize, into: &mut Vec<u8>);
}

/// What a driver has ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ready {
    pub(super) buffer: bool,
    pub(super) event: bool,
    pub(super) error: bool,
}

/// A buffer that comes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    pub(super) buffer: usize,
    /// The driver says that its data are damaged.
    pub(super) damaged: bool,
    /// Counted by the driver; frames that it had no buffer for count as well.
    pub(super) sequence: u32,
    /// When it was taken, if the driver's clock is the monotonic one.
    pub(super) time: Option<Instant>,
    /// Bytes of each plane: where the image begins, and where it ends.
    pub(super) planes: [(usize, usize); MAX_PLANES],
}

/// What a frame must be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// What each plane contributes; empty for a stream of bytes of any length in one plane.
    pub(super) parts: Vec<Part>,
    /// Bytes from row to row of each plane.
    pub(super) strides: Vec<usize>,
}

impl Layout {
    fn planes(&self) -> usize {
        self.parts.len().max(1)
    }

    /// Bytes of a plane up to the last that is needed.
    fn needed(&self, plane: usize) -> usize {
        self.parts.get(plane).map_or(1, |part| (part.rows.max(1) - 1) * self.strides[plane] + part.row)
    }
}

/// Why a ring cannot go on; the camera is opened again then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    #[error("cannot {action}: {cause}")]
    Driver { action: &'static str, cause: io::Error },
    #[error("the format has changed")]
    FormatChanged,
    #[error("the driver gave back buffer {0}, which it did not have")]
    Foreign(usize),
    #[error("the driver reports an error (POLLERR) without a cause")]
    Poll,
    #[error("the driver gave no buffers")]
    NoBuffers,
    #[error("no frame for {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// A frame, with its time.
    Frame(Instant),
    Nothing,
    /// Buffers came, but no frame that could be used.
    Corrupt(BufferFault),
}

/// Why what is in a buffer is no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BufferFault {
    /// Its number.
    #[error("the driver marks frame {0} as damaged")]
    Damaged(u32),
    /// Bytes up to its end, and of the buffer.
    #[error("{end} bytes in a buffer of {capacity}")]
    Beyond { end: usize, capacity: usize },
    /// Bytes of one plane.
    #[error("short frame: {found} bytes in plane {plane}, not {expected}")]
    Short { plane: usize, found: usize, expected: usize },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ring<D> {
    driver: D,
    layout: Layout,
    /// Whether each buffer is the driver's.
    queued: Vec<bool>,
    sequence: Option<u32>,
    /// Frames that were taken and not given on since the last one.
    discarded: u64,
    dropped: u64,
    /// When the last buffer came.
    last: Instant,
    /// Without any buffer for so long, something is broken.
    patience: Duration,
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> RingError {
    move |cause| RingError::Driver { action, cause }
}

impl<D: Driver> Ring<D> {
    /// Allocates, queues and starts.
    ///
    /// # Errors
    /// What the driver refuses.
    pub(super) fn start(mut driver: D, layout: Layout, patience: Duration) -> Result<Self, RingError> {
        let count = driver.allocate(BUFFERS).map_err(failed("allocate buffers (VIDIOC_REQBUFS)"))?;
        if count == 0 {
            return Err(RingError::NoBuffers);
        }
        let (sequence, last) = (None, Instant::now());
        let queued = vec![false; count];
        let mut ring = Self { driver, layout, queued, sequence, discarded: 0, dropped: 0, last, patience };
        ring.queue_all()?;
        ring.driver.start().map_err(failed("start (VIDIOC_STREAMON)"))?;
        Ok(ring)
    }

    /// The newest frame, copied into `bytes`: its planes one after another, rows without more
    /// padding than the first plane has. Returns after `wait`, a little more at most.
    ///
    /// # Errors
    /// What makes the stream useless.
    pub(super) fn next(&mut self, bytes: &mut Vec<u8>, wait: Duration) -> Result<Taken, RingError> {
        let deadline = Instant::now() + wait;
        self.queue_all()?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = match self.driver.wait(left) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ready::default(),
                ready => ready.map_err(failed("wait for a frame"))?,
            };
            if ready.event && self.driver.format_changed().map_err(failed("read an event"))? {
                return Err(RingError::FormatChanged);
            }
            if ready.buffer || ready.error {
                match self.take(bytes)? {
                    // The driver's error shows in its buffers, or it would be reported for ever.
                    Taken::Nothing if ready.error => return Err(RingError::Poll),
                    Taken::Nothing => {}
                    taken => return Ok(taken),
                }
            }
            if self.last.elapsed() > self.patience {
                return Err(RingError::Silent(self.last.elapsed()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Taken::Nothing);
            }
            // Woken for nothing: not to spin if that goes on.
            std::thread::sleep(left.min(Duration::from_millis(1)));
        }
    }

    /// Frames that were lost since the last call: for want of a buffer, or for a newer one.
    pub(super) fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Empties the driver: the newest buffer that can be used counts.
    fn take(&mut self, bytes: &mut Vec<u8>) -> Result<Taken, RingError> {
        let mut newest: Option<Filled> = None;
        let mut corrupt = None;
        // A driver that is faster than we are must not keep us here.
        for _ in 0..self.queued.len() {
            let filled = match self.driver.dequeue() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                filled => filled.map_err(failed("take a buffer (VIDIOC_DQBUF)"))?,
            };
            match self.queued.get_mut(filled.buffer) {
                Some(queued) if *queued => *queued = false,
                _ => return Err(RingError::Foreign(filled.buffer)),
            }
            self.last = Instant::now();
            if let Err(cause) = self.check(&filled) {
                corrupt = Some(cause);
                self.discard(filled.buffer)?;
            } else if let Some(older) = newest.replace(filled) {
                self.discard(older.buffer)?;
            }
        }
        if let Some(filled) = newest {
            self.copy(&filled, bytes);
            self.count(filled.sequence);
            self.queue(filled.buffer)?;
            let now = Instant::now();
            return Ok(Taken::Frame(filled.time.unwrap_or(now).min(now)));
        }
        let Some(cause) = corrupt else { return Ok(Taken::Nothing) };
        // It was reported, so it is not lost in silence.
        self.discarded -= 1;
        self.sequence = self.sequence.map(|sequence| sequence.wrapping_add(1));
        if !self.driver.same_format().map_err(failed("ask for the format"))? {
            return Err(RingError::FormatChanged);
        }
        Ok(Taken::Corrupt(cause))
    }

    fn check(&self, filled: &Filled) -> Result<(), BufferFault> {
        if filled.damaged {
            return Err(BufferFault::Damaged(filled.sequence));
        }
        for plane in 0..self.layout.planes() {
            let (begin, end) = filled.planes[plane];
            let capacity = self.driver.capacity(filled.buffer, plane);
            if end > capacity || begin > end {
                return Err(BufferFault::Beyond { end, capacity });
            }
            let (found, expected) = (end - begin, self.layout.needed(plane));
            if found < expected {
                return Err(BufferFault::Short { plane, found, expected });
            }
        }
        Ok(())
    }

    /// Reads camera memory once, from front to back: it is often not cached.
    fn copy(&self, filled: &Filled, bytes: &mut Vec<u8>) {
        bytes.clear();
        if self.layout.parts.is_empty() {
            let (begin, end) = filled.planes[0];
            return self.driver.read(filled.buffer, 0, begin, end - begin, bytes);
        }
        for (plane, (part, stride)) in self.layout.parts.iter().zip(&self.layout.strides).enumerate() {
            let begin = filled.planes[plane].0;
            if *stride == part.row {
                self.driver.read(filled.buffer, plane, begin, part.rows * part.row, bytes);
                continue;
            }
            for row in 0..part.rows {
                self.driver.read(filled.buffer, plane, begin + row * stride, part.row, bytes);
            }
        }
    }

    /// Counts what lies between this frame and the one before.
    fn count(&mut self, sequence: u32) {
        /// A larger gap is a counter that began anew.
        const PLAUSIBLE: u32 = 10_000;
        let gap = self.sequence.map_or(0, |last| sequence.wrapping_sub(last).wrapping_sub(1));
        let discarded = std::mem::take(&mut self.discarded);
        self.dropped += if gap < PLAUSIBLE { u64::from(gap).max(discarded) } else { discarded };
        self.sequence = Some(sequence);
    }

    fn discard(&mut self, buffer: usize) -> Result<(), RingError> {
        self.discarded += 1;
        self.queue(buffer)
    }

    /// Gives a buffer back. When the driver refuses it for now, it stays ours for now.
    fn queue(&mut self, buffer: usize) -> Result<(), RingError> {
        match self.driver.queue(buffer) {
            Ok(()) => {
                self.queued[buffer] = true;
                Ok(())
            }
            Err(error) if self.queued.contains(&true) && !is_fatal(&error) => Ok(()),
            Err(error) => Err(failed("give a buffer back (VIDIOC_QBUF)")(error)),
        }
    }

    fn queue_all(&mut self) -> Result<(), RingError> {
        for buffer in 0..self.queued.len() {
            if !self.queued[buffer] {
                self.queue(buffer)?;
            }
        }
        Ok(())
    }
}

/// Whether trying again is of no use.
fn is_fatal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let fatal = [Errno::NODEV, Errno::NXIO, Errno::IO, Errno::BADF, Errno::PIPE];
    fatal.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use rustix::io::Errno;

    use super::*;

    const WAIT: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_mins(1);

    /// What the fake does next, instead of what it should.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        Queue(Errno),
        Dequeue(Errno),
        Wait(Errno),
        PollError,
        Damaged,
        Bytes(usize),
        Index(usize),
        Event,
        Spurious,
    }

    /// A driver that fills its buffers in turn, and looks after their owners.
    #[derive(Debug)]
    struct Fake {
        count: usize,
        planes: Vec<usize>,
        queue: VecDeque<usize>,
        ours: Vec<bool>,
        /// Frames that the camera has taken.
        frames: u32,
        /// Frames that have been waiting for a reader.
        ready: VecDeque<(usize, u32)>,
        faults: VecDeque<Fault>,
        changed: bool,
        time: Option<Instant>,
    }

    impl Fake {
        fn new(planes: &[usize]) -> Self {
            Self {
                count: 4,
                planes: planes.to_vec(),
                queue: VecDeque::new(),
                ours: vec![],
                frames: 0,
                ready: VecDeque::new(),
                faults: VecDeque::new(),
                changed: false,
                time: None,
            }
        }

        /// The camera takes so many frames.
        fn shoot(&mut self, frames: u32) {
            for _ in 0..frames {
                if let Some(buffer) = self.queue.pop_front() {
                    self.ready.push_back((buffer, self.frames));
                }
                self.frames += 1;
            }
        }

        fn fault<T>(&mut self, choose: impl Fn(Fault) -> Option<T>) -> Option<T> {
            let found = choose(*self.faults.front()?);
            if found.is_some() {
                self.faults.pop_front();
            }
            found
        }
    }

    impl Driver for Fake {
        fn allocate(&mut self, _: u32) -> io::Result<usize> {
            self.ours = vec![true; self.count];
            Ok(self.count)
        }

        fn capacity(&self, _: usize, plane: usize) -> usize {
            self.planes[plane]
        }

        fn queue(&mut self, buffer: usize) -> io::Result<()> {
            assert!(self.ours[buffer], "buffer {buffer} is queued twice");
            if let Some(errno) =
                self.fault(|fault| if let Fault::Queue(errno) = fault { Some(errno) } else { None })
            {
                return Err(errno.into());
            }
            self.ours[buffer] = false;
            self.queue.push_back(buffer);
            Ok(())
        }

        fn dequeue(&mut self) -> io::Result<Filled> {
            if let Some(errno) =
                self.fault(|fault| if let Fault::Dequeue(errno) = fault { Some(errno) } else { None })
            {
                return Err(errno.into());
            }
            let Some((buffer, sequence)) = self.ready.pop_front() else { return Err(Errno::AGAIN.into()) };
            self.ours[buffer] = true;
            let mut filled = Filled {
                buffer,
                damaged: false,
                sequence,
                time: self.time,
                planes: std::array::from_fn(|plane| (0, self.planes.get(plane).copied().unwrap_or_default())),
            };
            match self.faults.front().copied() {
                Some(Fault::Damaged) => filled.damaged = true,
                Some(Fault::Bytes(bytes)) => filled.planes[0].1 = bytes,
                Some(Fault::Index(index)) => filled.buffer = index,
                _ => return Ok(filled),
            }
            self.faults.pop_front();
            Ok(filled)
        }

        fn start(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn wait(&mut self, time: Duration) -> io::Result<Ready> {
            let ready = Ready { buffer: !self.ready.is_empty(), ..Ready::default() };
            match self.faults.front().copied() {
                Some(Fault::Wait(errno)) => {
                    self.faults.pop_front();
                    return Err(errno.into());
                }
                Some(Fault::PollError) => {
                    self.faults.pop_front();
                    return Ok(Ready { error: true, ..ready });
                }
                Some(Fault::Event) => {
                    self.faults.pop_front();
                    return Ok(Ready { event: true, ..ready });
                }
                Some(Fault::Spurious) => {
                    self.faults.pop_front();
                    return Ok(Ready { buffer: true, ..ready });
                }
                _ => {}
            }
            if !ready.buffer {
                std::thread::sleep(time);
            }
            Ok(ready)
        }

        fn format_changed(&mut self) -> io::Result<bool> {
            Ok(self.changed)
        }

        fn same_format(&mut self) -> io::Result<bool> {
            Ok(!self.changed)
        }

        fn read(&self, buffer: usize, plane: usize, from: usize, bytes: usize, into: &mut Vec<u8>) {
            assert!(self.ours[buffer], "buffer {buffer} is read while the driver has it");
            assert!(from + bytes <= self.planes[plane]);
            into.extend((from..from + bytes).map(|at| (at + 100 * plane) as u8));
        }
    }

    fn stream(bytes: usize) -> Layout {
        Layout { parts: vec![Part { rows: 1, row: bytes }], strides: vec![bytes] }
    }

    fn ring(fake: Fake, layout: Layout) -> Ring<Fake> {
        Ring::start(fake, layout, PATIENCE).unwrap()
    }

    fn with(faults: &[Fault]) -> Ring<Fake> {
        let mut ring = ring(Fake::new(&[8]), stream(8));
        ring.driver.faults = faults.iter().copied().collect();
        ring
    }

    fn take(ring: &mut Ring<Fake>) -> Result<Taken, RingError> {
        ring.next(&mut vec![], WAIT)
    }

    fn is_frame(taken: &Result<Taken, RingError>) -> bool {
        matches!(taken, Ok(Taken::Frame(_)))
    }

    #[test]
    fn the_newest_frame_counts_and_the_others_are_counted() {
        let mut ring = ring(Fake::new(&[8]), stream(8));
        let mut bytes = vec![9; 100];
        ring.driver.shoot(1);
        assert!(matches!(ring.next(&mut bytes, WAIT).unwrap(), Taken::Frame(_)));
        assert_eq!(bytes, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(ring.dropped(), 0);
        // Six frames for four buffers: three are older than the newest, two had no buffer.
        ring.driver.shoot(6);
        assert!(is_frame(&take(&mut ring)));
        assert_eq!(ring.dropped(), 3);
        ring.driver.shoot(1);
        assert!(is_frame(&take(&mut ring)));
        assert_eq!((ring.dropped(), ring.dropped()), (2, 0));
        assert!(ring.queued.iter().all(|queued| *queued));
    }

    #[test]
    fn a_deadline_is_kept() {
        let mut ring = ring(Fake::new(&[8]), stream(8));
        let begin = Instant::now();
        assert_eq!(take(&mut ring).unwrap(), Taken::Nothing);
        assert!(begin.elapsed() >= WAIT && begin.elapsed() < WAIT * 20);
        ring.driver.faults = std::iter::repeat_n(Fault::Spurious, 100_000).collect();
        let begin = Instant::now();
        assert_eq!(take(&mut ring).unwrap(), Taken::Nothing);
        assert!(begin.elapsed() < WAIT * 20);
        ring.driver.faults = std::iter::repeat_n(Fault::Wait(Errno::INTR), 100_000).collect();
        assert_eq!(take(&mut ring).unwrap(), Taken::Nothing);
    }

    #[test]
    fn silence_is_an_error_in_the_end() {
        let mut ring = Ring::start(Fake::new(&[8]), stream(8), WAIT / 2).unwrap();
        assert!(matches!(take(&mut ring), Err(RingError::Silent(_))));
    }

    #[test]
    fn damaged_short_empty_and_oversize_buffers_are_no_frames() {
        for (fault, expected) in [
            (Fault::Damaged, BufferFault::Damaged(0)),
            (Fault::Bytes(7), BufferFault::Short { plane: 0, found: 7, expected: 8 }),
            (Fault::Bytes(0), BufferFault::Short { plane: 0, found: 0, expected: 8 }),
            (Fault::Bytes(9), BufferFault::Beyond { end: 9, capacity: 8 }),
        ] {
            let mut ring = with(&[fault]);
            ring.driver.shoot(1);
            let Ok(Taken::Corrupt(cause)) = take(&mut ring) else { panic!("{fault:?}") };
            assert_eq!(cause, expected);
            // Reported, so not dropped; and the next is good again.
            ring.driver.shoot(1);
            assert!(is_frame(&take(&mut ring)));
            assert_eq!(ring.dropped(), 0);
            // Next to a good one it is just lost.
            ring.driver.faults.push_back(fault);
            ring.driver.shoot(2);
            assert!(is_frame(&take(&mut ring)));
            assert_eq!(ring.dropped(), 1);
        }
    }

    #[test]
    fn a_refused_buffer_is_given_again() {
        let mut ring = with(&[]);
        ring.driver.shoot(1);
        ring.driver.faults.push_back(Fault::Queue(Errno::INVAL));
        assert!(is_frame(&take(&mut ring)));
        assert_eq!(ring.queued.iter().filter(|queued| !**queued).count(), 1);
        assert_eq!(take(&mut ring).unwrap(), Taken::Nothing);
        assert!(ring.queued.iter().all(|queued| *queued));
        // Without a single buffer there would never be a frame.
        ring.driver.shoot(4);
        ring.driver.faults = std::iter::repeat_n(Fault::Queue(Errno::INVAL), 4).collect();
        let error = take(&mut ring).unwrap_err().to_string();
        assert!(error.contains("VIDIOC_QBUF"), "{error}");
    }

    #[test]
    fn a_lost_device_is_an_error_wherever_it_shows() {
        for errno in [Errno::NODEV, Errno::IO] {
            for fault in [Fault::Queue(errno), Fault::Dequeue(errno), Fault::Wait(errno)] {
                let mut ring = with(&[fault]);
                ring.driver.shoot(1);
                let error = take(&mut ring).unwrap_err();
                let RingError::Driver { cause, .. } = &error else { panic!("{error}") };
                assert_eq!(cause.raw_os_error(), Some(errno.raw_os_error()));
            }
        }
        assert!(matches!(take(&mut with(&[Fault::PollError])), Err(RingError::Poll)));
        let mut ring = with(&[Fault::PollError, Fault::Dequeue(Errno::IO)]);
        assert!(matches!(take(&mut ring), Err(RingError::Driver { .. })));
    }

    #[test]
    fn a_buffer_that_was_not_given_is_refused() {
        for index in [4, usize::MAX] {
            let mut ring = with(&[Fault::Index(index)]);
            ring.driver.shoot(1);
            assert!(matches!(take(&mut ring), Err(RingError::Foreign(_))));
        }
    }

    #[test]
    fn a_new_format_is_seen_by_event_and_by_size() {
        let mut ring = with(&[Fault::Event]);
        ring.driver.shoot(1);
        assert!(is_frame(&take(&mut ring)));
        ring.driver.faults.push_back(Fault::Event);
        ring.driver.changed = true;
        assert!(matches!(take(&mut ring), Err(RingError::FormatChanged)));
        let mut ring = with(&[Fault::Bytes(4)]);
        ring.driver.changed = true;
        ring.driver.shoot(1);
        assert!(matches!(take(&mut ring), Err(RingError::FormatChanged)));
    }

    #[test]
    fn planes_follow_each_other_and_lose_their_padding() {
        let parts = vec![Part { rows: 2, row: 4 }, Part { rows: 1, row: 4 }, Part { rows: 2, row: 2 }];
        let layout = Layout { parts, strides: vec![4, 4, 3] };
        let mut ring = ring(Fake::new(&[8, 6, 5]), layout);
        ring.driver.shoot(1);
        let mut bytes = vec![];
        assert!(matches!(ring.next(&mut bytes, WAIT).unwrap(), Taken::Frame(_)));
        assert_eq!(bytes, [0, 1, 2, 3, 4, 5, 6, 7, 100, 101, 102, 103, 200, 201, 203, 204]);
    }

    #[test]
    fn jpeg_may_have_any_length_but_none() {
        let mut ring = ring(Fake::new(&[8]), Layout { parts: vec![], strides: vec![] });
        for (bytes, good) in [(3, true), (8, true), (0, false), (9, false)] {
            ring.driver.faults.push_back(Fault::Bytes(bytes));
            ring.driver.shoot(1);
            let mut frame = vec![];
            let taken = ring.next(&mut frame, WAIT).unwrap();
            assert_eq!(matches!(taken, Taken::Frame(_)), good);
            assert_eq!(frame.len(), if good { bytes } else { 0 });
        }
    }

    #[test]
    fn the_drivers_time_counts_unless_it_lies_ahead() {
        let mut ring = with(&[]);
        let then = Instant::now();
        ring.driver.time = Some(then);
        ring.driver.shoot(1);
        assert_eq!(take(&mut ring).unwrap(), Taken::Frame(then));
        ring.driver.time = Some(then + Duration::from_hours(1));
        ring.driver.shoot(1);
        let Ok(Taken::Frame(time)) = take(&mut ring) else { panic!("no frame") };
        assert!(time <= Instant::now());
    }

    fn fault() -> impl Strategy<Value = Fault> {
        let errno = prop::sample::select(vec![
            Errno::INVAL,
            Errno::AGAIN,
            Errno::INTR,
            Errno::NOMEM,
            Errno::BUSY,
            Errno::IO,
            Errno::NODEV,
        ]);
        prop_oneof![
            errno.clone().prop_map(Fault::Queue),
            errno.clone().prop_map(Fault::Dequeue),
            errno.prop_map(Fault::Wait),
            Just(Fault::PollError),
            Just(Fault::Damaged),
            (0..20_usize).prop_map(Fault::Bytes),
            (6..9_usize).prop_map(Fault::Index),
            Just(Fault::Event),
            Just(Fault::Spurious),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        /// The fake panics when a buffer is queued twice or read while the driver has it.
        #[test]
        fn no_fault_loses_or_doubles_a_buffer(
            count in 1..6_usize,
            steps in prop::collection::vec((0..9_u32, prop::collection::vec(fault(), 0..3)), 1..20),
        ) {
            let wait = Duration::from_micros(100);
            let mut fake = Fake::new(&[8]);
            fake.count = count;
            let mut ring = Ring::start(fake, stream(8), PATIENCE).unwrap();
            for (frames, faults) in steps {
                ring.driver.shoot(frames);
                ring.driver.faults.extend(faults);
                let begin = Instant::now();
                let taken = ring.next(&mut vec![], wait);
                prop_assert!(begin.elapsed() < Duration::from_secs(1));
                let ours: Vec<bool> = ring.queued.iter().map(|queued| !queued).collect();
                if matches!(taken, Err(RingError::Foreign(_))) {
                    return Ok(());
                }
                prop_assert_eq!(&ours, &ring.driver.ours);
                if taken.is_err() {
                    return Ok(());
                }
            }
            ring.driver.faults.clear();
            // Healthy again: every buffer is at work, and a frame comes.
            ring.queue_all().unwrap();
            prop_assert!(ring.queued.iter().all(|queued| *queued));
            ring.driver.shoot(1);
            prop_assert!(is_frame(&ring.next(&mut vec![], wait)));
        }
    }
}
