/// Something that runs the parts of a layer, on one thread or on many.
///
/// A kernel calls [`run`](Self::run) once per layer. It is sound, if wasteful, for an
/// implementation to call a part twice or not at all: a kernel runs each part at most once.
pub trait Parallel: Sync {
    /// Threads that parts are spread over; a kernel cuts a layer into about as many parts.
    fn threads(&self) -> usize;

    /// Calls `task` with each of `0..parts` and returns when all have finished.
    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync));
}

/// Runs everything on the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sequential;

impl Parallel for Sequential {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..parts).for_each(task);
    }
}
