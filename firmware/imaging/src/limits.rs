//! The largest images.

/// Longest side of an image that is decoded or preprocessed, in pixels.
pub const MAX_IMAGE_SIDE: u32 = 16384;

/// Largest side that an image is resized or cropped to, in pixels.
pub const MAX_INPUT_SIDE: u32 = 4096;

/// Longest row of a frame, in bytes.
pub const MAX_STRIDE: u32 = 1 << 18;

/// Most pixels of a frame of a stream: more than any camera for video has. Decoding so many takes
/// some 72 MB, and less time than a watchdog waits.
pub const MAX_FRAME_PIXELS: u64 = 24 << 20;
