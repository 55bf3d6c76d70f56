//! JPEG data made ready for a decoder that is to notice what is missing.
//!
//! The decoder fills what is not there with grey or with whatever zeros decode to, and reports
//! nothing: a frame that lost its second half, or a packet in the middle, would be classified as if
//! whole. So behind each stretch of entropy-coded data (ITU-T T.81, F.1.2.3 and B.1.1.5) come bits of
//! one, which begin no code of any table: who needs more than there is meets an error. Restart
//! intervals that are missing altogether are counted.

use memchr::memchr;

use crate::markers;

/// The segment with the Huffman tables of ITU-T T.81, Annex K.3. Cameras that send MJPEG leave
/// it out.
pub(crate) const HUFFMAN_TABLES: &[u8] = include_bytes!("huffman.bin");

/// Stuffed bytes of ones. No symbol with its extra bits is longer than 32 bits, and a decoder reads
/// ahead no more than 64.
const ONES: [u8; 32] = {
    let mut ones = [0; 32];
    let mut index = 0;
    while index < 32 {
        ones[index] = 0xff;
        index += 2;
    }
    ones
};

/// Why data is no whole JPEG image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteScan {
    /// It ends before the first scan, or within its header.
    #[error("the JPEG data is truncated")]
    CutOff,
    /// A scan comes before the header that says what it holds.
    #[error("the JPEG data has a scan and no frame header before it")]
    NoFrame,
    /// Restart intervals are missing, or there are too many.
    #[error("the JPEG data is not all there: {found} of {expected} restart intervals")]
    Intervals {
        /// How many there are.
        found: u64,
        /// How many the header asks for.
        expected: u64,
    },
    /// Restart markers do not follow one another.
    #[error("the JPEG data is not all there: restart markers are missing")]
    Order,
}

/// What the frame header says of the pieces that an image is coded in.
#[derive(Debug, Clone, Copy)]
struct Frame {
    progressive: bool,
    width: u64,
    height: u64,
    components: u8,
    /// Largest sampling factors, horizontal and vertical.
    sampling: (u64, u64),
}

impl Frame {
    /// From the content of a segment SOF.
    fn parse(kind: u8, content: &[u8]) -> Option<Self> {
        let [_, y1, y0, x1, x0, components, ref parameters @ ..] = *content else { return None };
        let mut sampling = (1, 1);
        for component in parameters.chunks_exact(3).take(components.into()) {
            let (across, down) = (u64::from(component[1] >> 4), u64::from(component[1] & 15));
            sampling = (sampling.0.max(across), sampling.1.max(down));
        }
        Some(Self {
            progressive: kind == markers::PROGRESSIVE,
            width: u16::from_be_bytes([x1, x0]).into(),
            height: u16::from_be_bytes([y1, y0]).into(),
            components,
            sampling,
        })
    }

    /// Minimum coded units of the only scan of an image.
    fn units(&self) -> u64 {
        // A single component is coded block by block, whatever its factors.
        let (across, down) = if self.components == 1 { (1, 1) } else { self.sampling };
        self.width.div_ceil(8 * across) * self.height.div_ceil(8 * down)
    }
}

/// Writes an image to `into` so that decoding fails where data is missing: with the standard's
/// Huffman tables if it came without any, an end of image, and without bytes that belong to no segment.
///
/// # Errors
/// What is missing, as far as it shows without decoding.
pub(crate) fn prepare(jpeg: &[u8], into: &mut Vec<u8>) -> Result<(), IncompleteScan> {
    into.clear();
    into.extend_from_slice(&[markers::PREFIX, markers::START]);
    let (mut position, mut scans, mut has_tables) = (2, 0, false);
    let (mut header, mut interval) = (None, 0);
    // Of the first scan.
    let mut restarts = 0;
    while let Some(at) = memchr(markers::PREFIX, jpeg.get(position..).unwrap_or_default()) {
        position += at;
        let Some(&kind) = jpeg.get(position + 1) else { break };
        match kind {
            markers::PREFIX => position += 1,
            // Stuffing without a scan, and markers that stand alone.
            markers::STUFFED | markers::TEMPORARY => position += 2,
            _ if markers::restart(kind).is_some() => position += 2,
            // The end, or another image's beginning.
            markers::START | markers::END => break,
            _ => {
                let end = markers::segment_end(jpeg, position).ok_or(IncompleteScan::CutOff)?;
                let segment = jpeg.get(position..end).ok_or(IncompleteScan::CutOff)?;
                let content = &segment[4..];
                match (kind, content) {
                    (markers::HUFFMAN | markers::ARITHMETIC, _) => has_tables = true,
                    (markers::INTERVAL, &[high, low, ..]) => {
                        interval = u64::from(u16::from_be_bytes([high, low]));
                    }
                    (kind, _) if markers::is_frame(kind) => {
                        header = Some(Frame::parse(kind, content).ok_or(IncompleteScan::CutOff)?);
                    }
                    (markers::SCAN, _) if !has_tables => into.extend_from_slice(HUFFMAN_TABLES),
                    _ => {}
                }
                into.extend_from_slice(segment);
                position = end;
                if kind == markers::SCAN {
                    let frame = header.ok_or(IncompleteScan::NoFrame)?;
                    // Of several scans the decoder wants to meet the marker behind the first at once.
                    let is_padded = scans > 0 || !frame.progressive && is_complete_scan(content, frame);
                    let found;
                    (position, found) = copy_scan(jpeg, position, is_padded, into)?;
                    restarts = if scans == 0 { found } else { restarts };
                    scans += 1;
                }
            }
        }
    }
    let Some(frame) = header.filter(|_| scans > 0) else { return Err(IncompleteScan::CutOff) };
    if scans == 1 && interval > 0 && !frame.progressive {
        let (found, expected) = (restarts + 1, frame.units().div_ceil(interval));
        // Some encoders end with a restart marker.
        if found != expected && found != expected + 1 {
            return Err(IncompleteScan::Intervals { found, expected });
        }
    }
    into.extend_from_slice(&[markers::PREFIX, markers::END]);
    Ok(())
}

/// Whether a scan holds every component of the frame, so that no other follows.
fn is_complete_scan(header: &[u8], frame: Frame) -> bool {
    header.first() == Some(&frame.components)
}

/// Copies entropy-coded data from `start` on. Gives where it ends and how many restart markers are in
/// it.
fn copy_scan(
    jpeg: &[u8],
    start: usize,
    is_padded: bool,
    into: &mut Vec<u8>,
) -> Result<(usize, u64), IncompleteScan> {
    let (mut from, mut position, mut restarts) = (start, start, 0);
    let pad: &[u8] = if is_padded { &ONES } else { &[] };
    loop {
        let found = memchr(markers::PREFIX, &jpeg[position..]).map(|at| position + at);
        let Some((at, kind)) = found.and_then(|at| Some((at, *jpeg.get(at + 1)?))) else {
            // Half a marker is none.
            let end = found.unwrap_or(jpeg.len());
            into.extend_from_slice(&jpeg[from..end]);
            into.extend_from_slice(pad);
            return Ok((jpeg.len(), restarts));
        };
        match (kind, markers::restart(kind)) {
            (markers::STUFFED, _) => position = at + 2,
            (markers::PREFIX, _) => position = at + 1,
            (_, Some(number)) => {
                if u64::from(number) != restarts % 8 {
                    return Err(IncompleteScan::Order);
                }
                into.extend_from_slice(&jpeg[from..at]);
                into.extend_from_slice(pad);
                into.extend_from_slice(&jpeg[at..at + 2]);
                restarts += 1;
                (from, position) = (at + 2, at + 2);
            }
            _ => {
                into.extend_from_slice(&jpeg[from..at]);
                into.extend_from_slice(pad);
                return Ok((at, restarts));
            }
        }
    }
}
