//! A V4L2 device's buffers, mapped into memory, and its stream.

use std::io;
use std::os::fd::AsFd as _;
use std::ptr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use v4l::Memory;
use v4l::buffer::Flags as BufferFlags;
use v4l::v4l_sys::*;
use v4l::v4l2::vidioc;

use super::device::{
    Device, Format, MAX_ENTRIES, Planes, Request, VIDIOC_DQEVENT, VIDIOC_SUBSCRIBE_EVENT, zeroed,
};
use super::ring::{Driver, Filled, MAX_PLANES, Ready};

/// Memory of a driver that we may read.
#[derive(Debug)]
struct Mapping {
    address: *mut std::ffi::c_void,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process and is not bound to a thread.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this address and length, once, and nothing points into it.
        // An error would mean that it is not mapped, which is what was wanted.
        let _ = unsafe { rustix::mm::munmap(self.address, self.bytes) };
    }
}

/// A device with mapped buffers.
#[derive(Debug)]
pub(super) struct Capture {
    device: Device,
    planes: Planes,
    agreed: Format,
    /// Of each buffer, each plane.
    mappings: Vec<Vec<Mapping>>,
}

/// A buffer as the kernel wants to hear of it.
struct Message {
    buffer: v4l2_buffer,
    planes: [v4l2_plane; MAX_PLANES],
}

impl Capture {
    pub(super) fn new(device: Device, planes: Planes, agreed: Format) -> Self {
        let mut event = v4l2_event_subscription { type_: V4L2_EVENT_SOURCE_CHANGE, ..zeroed() };
        // Most cameras have no such event.
        let _ = device.request(VIDIOC_SUBSCRIBE_EVENT, &mut event);
        Self { device, planes, agreed, mappings: vec![] }
    }

    /// Makes a request about a buffer.
    fn buffer(&self, request: Request, index: u32) -> io::Result<Message> {
        let mut message = Message { buffer: zeroed(), planes: [zeroed(); MAX_PLANES] };
        message.buffer.index = index;
        message.buffer.type_ = self.planes.buffer_type();
        message.buffer.memory = Memory::Mmap as u32;
        if self.planes == Planes::Multiple {
            message.buffer.m.planes = message.planes.as_mut_ptr();
            message.buffer.length = MAX_PLANES as u32;
        }
        let result = self.device.request(request, &mut message.buffer);
        // The message is about to move.
        if self.planes == Planes::Multiple {
            message.buffer.m.planes = ptr::null_mut();
        }
        result.map(|()| message)
    }

    fn reserve(&self, count: u32) -> io::Result<u32> {
        let mut request = v4l2_requestbuffers {
            count,
            type_: self.planes.buffer_type(),
            memory: Memory::Mmap as u32,
            ..zeroed()
        };
        self.device.request(vidioc::VIDIOC_REQBUFS, &mut request)?;
        Ok(request.count)
    }

    fn map(&self, offset: u32, bytes: usize) -> io::Result<Mapping> {
        let descriptor = self.device.file.as_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let address = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                descriptor,
                offset.into(),
            )
        }?;
        Ok(Mapping { address, bytes })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let mut kind = self.planes.buffer_type() as i32;
        // All of this is only tidy: the kernel does it when the device is closed, and a device
        // that is gone refuses it.
        let _ = self.device.request(vidioc::VIDIOC_STREAMOFF, &mut kind);
        self.mappings.clear();
        let _ = self.reserve(0);
    }
}

impl Driver for Capture {
    fn allocate(&mut self, count: u32) -> io::Result<usize> {
        let count = self.reserve(count)?;
        for index in 0..count {
            let message = self.buffer(vidioc::VIDIOC_QUERYBUF, index)?;
            let places = match self.planes {
                // SAFETY: mapped buffers have an offset; any bytes are a number.
                Planes::Single => vec![(unsafe { message.buffer.m.offset }, message.buffer.length)],
                Planes::Multiple => {
                    let count = (message.buffer.length as usize).min(MAX_PLANES);
                    let place = |plane: &v4l2_plane| {
                        // SAFETY: mapped buffers have an offset; any bytes are a number.
                        (unsafe { plane.m.mem_offset }, plane.length)
                    };
                    message.planes[..count].iter().map(place).collect()
                }
            };
            let map = |(offset, bytes): (u32, u32)| self.map(offset, bytes as usize);
            let mappings = places.into_iter().map(map).collect::<io::Result<Vec<_>>>()?;
            self.mappings.push(mappings);
        }
        Ok(count as usize)
    }

    fn capacity(&self, buffer: usize, plane: usize) -> usize {
        self.mappings.get(buffer).and_then(|planes| planes.get(plane)).map_or(0, |mapping| mapping.bytes)
    }

    fn queue(&mut self, buffer: usize) -> io::Result<()> {
        self.buffer(vidioc::VIDIOC_QBUF, buffer as u32).map(|_| ())
    }

    fn dequeue(&mut self) -> io::Result<Filled> {
        let Message { buffer, planes } = self.buffer(vidioc::VIDIOC_DQBUF, 0)?;
        let flags = BufferFlags::from(buffer.flags);
        let monotonic = flags & BufferFlags::TIMESTAMP_MASK == BufferFlags::TIMESTAMP_MONOTONIC;
        let mut ranges = [(0, 0); MAX_PLANES];
        match self.planes {
            Planes::Single => ranges[0] = (0, buffer.bytesused as usize),
            Planes::Multiple => {
                for (range, plane) in ranges.iter_mut().zip(&planes) {
                    *range = (plane.data_offset as usize, plane.bytesused as usize);
                }
            }
        }
        Ok(Filled {
            buffer: buffer.index as usize,
            damaged: flags.contains(BufferFlags::ERROR),
            sequence: buffer.sequence,
            time: monotonic.then(|| instant(&buffer.timestamp)).flatten(),
            planes: ranges,
        })
    }

    fn start(&mut self) -> io::Result<()> {
        let mut kind = self.planes.buffer_type() as i32;
        self.device.request(vidioc::VIDIOC_STREAMON, &mut kind)
    }

    fn wait(&mut self, time: Duration) -> io::Result<Ready> {
        let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let mut polled = [PollFd::new(&self.device.file, PollFlags::IN | PollFlags::PRI)];
        poll(&mut polled, Some(&timeout))?;
        let found = polled[0].revents();
        Ok(Ready {
            buffer: found.contains(PollFlags::IN),
            event: found.contains(PollFlags::PRI),
            error: found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL),
        })
    }

    fn format_changed(&mut self) -> io::Result<bool> {
        let mut changed = false;
        for _ in 0..MAX_ENTRIES {
            let mut event: v4l2_event = zeroed();
            match self.device.request(VIDIOC_DQEVENT, &mut event) {
                // No more of them.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => break,
                result => result?,
            }
            // SAFETY: the kernel fills this member for this type; any bytes are a number.
            let changes = unsafe { event.u.src_change.changes };
            changed |= event.type_ == V4L2_EVENT_SOURCE_CHANGE && changes & V4L2_EVENT_SRC_CH_RESOLUTION != 0;
        }
        Ok(changed)
    }

    fn same_format(&mut self) -> io::Result<bool> {
        Ok(self.device.format(self.planes)? == self.agreed)
    }

    fn read(&self, buffer: usize, plane: usize, from: usize, bytes: usize, into: &mut Vec<u8>) {
        let Some(mapping) = self.mappings.get(buffer).and_then(|planes| planes.get(plane)) else { return };
        let from = from.min(mapping.bytes);
        let bytes = bytes.min(mapping.bytes - from);
        into.reserve(bytes);
        let end = into.len();
        // SAFETY: the source lies within the mapping, which lives as long as `self`; there is
        // room for as many bytes behind the vector's end; the two are different memory.
        unsafe {
            ptr::copy_nonoverlapping(
                mapping.address.cast::<u8>().add(from),
                into.as_mut_ptr().add(end),
                bytes,
            );
            into.set_len(end + bytes);
        }
    }
}

/// A time of the monotonic clock, unless it lies ahead or is older than any frame can be.
fn instant(time: &timeval) -> Option<Instant> {
    /// Older than this is no time of this clock.
    const OLDEST: Duration = Duration::from_mins(1);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    let microseconds = u64::try_from(time.tv_usec).ok().filter(|microseconds| *microseconds < 1_000_000)?;
    let then = Duration::from_secs(u64::try_from(time.tv_sec).ok()?) + Duration::from_micros(microseconds);
    let age = now.checked_sub(then).filter(|age| *age < OLDEST)?;
    Instant::now().checked_sub(age)
}

#[cfg(test)]
mod tests {
    use v4l::FourCC;

    use super::*;
    use crate::camera::device::progressive;

    #[test]
    fn a_file_has_no_buffers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Device::open(file.path()).unwrap();
        // Everything in its Drop fails, and none of it matters.
        let mut capture = Capture::new(device, Planes::Multiple, progressive(FourCC::new(b"NV12"), (2, 2)));
        let error = capture.allocate(4).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOTTY.raw_os_error()));
    }

    #[test]
    fn mapped_memory_is_read_within_its_bounds() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1, 2, 3, 4]).unwrap();
        let device = Device::open(file.path()).unwrap();
        let mut capture = Capture::new(device, Planes::Single, progressive(FourCC::new(b"GREY"), (2, 2)));
        let mapping = capture.map(0, 4).unwrap();
        capture.mappings.push(vec![mapping]);
        assert_eq!((capture.capacity(0, 0), capture.capacity(0, 1), capture.capacity(1, 0)), (4, 0, 0));
        let mut bytes = vec![9];
        capture.read(0, 0, 1, 2, &mut bytes);
        assert_eq!(bytes, [9, 2, 3]);
        capture.read(0, 0, 3, 2, &mut bytes);
        capture.read(0, 0, 5, 1, &mut bytes);
        capture.read(1, 0, 0, 1, &mut bytes);
        assert_eq!(bytes, [9, 2, 3, 4]);
    }

    #[test]
    fn the_monotonic_clock_is_that_of_instants() {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let time = |seconds: i64| {
            timeval { tv_sec: now.tv_sec as _, tv_usec: (now.tv_nsec / 1000) as _ }.shifted(seconds)
        };
        let age = instant(&time(-2)).unwrap().elapsed();
        assert!(age >= Duration::from_secs(2) && age < Duration::from_secs(30), "{age:?}");
        assert!(instant(&time(30)).is_none() && instant(&time(-3600)).is_none());
        assert!(instant(&timeval { tv_sec: -1, tv_usec: 0 }).is_none());
        assert!(instant(&timeval { tv_usec: -1, ..time(-2) }).is_none());
    }

    trait Shifted {
        fn shifted(self, seconds: i64) -> Self;
    }

    impl Shifted for timeval {
        fn shifted(self, seconds: i64) -> Self {
            Self { tv_sec: self.tv_sec + seconds as time_t, ..self }
        }
    }
}
