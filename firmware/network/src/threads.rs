//! The compute threads that share the layers of a network.
//!
//! A [`ThreadPool`] is a rayon pool that stays awake during an inference. ResNet-50 has 54
//! layers of 30 to 400 microseconds (x86, two threads), so what a layer's barrier costs
//! counts. Measured on a Zen 4 virtual machine with two cores, 54 layers of two equal parts
//! of 50 microseconds, overhead of one layer in microseconds, the best and the median run:
//!
//! | | best | median |
//! |---|---|---|
//! | `pool.install` around each layer | 8.1 | 12.1 |
//! | `pool.in_place_scope` around each layer | 4.5 | 5.7 |
//! | one `install` around all layers, `broadcast` in each | 1.5 | 2.6 |
//! | one `install` around all layers, `join` in each | 1.5 | 2.6 |
//! | the same with workers kept awake (this module) | 0.8 | 1.1 |
//! | a pool of our own that spins, static parts | 0.6 | 1.2 |
//! | paralight 0.0.8, fixed partition | 58 | 84 |
//!
//! The second to last row loses milliseconds as soon as another process takes a core, because a
//! part cannot be moved once it is assigned. With rayon the thread that is still running takes it.
//! Without the workers kept awake the numbers of the `join` row only hold while the cores
//! are busy: on an idle machine a worker that went to sleep needs more than 10 microseconds to wake.
//!
//! Being kept awake means: while [`install`](ThreadPool::install) runs, each worker looks for
//! work in a loop instead of sleeping after some 30 fruitless rounds, and so does a thread
//! that waits for the last part of a layer. Outside of `install` the pool sleeps.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use resight_kernels::Parallel;

/// A core counts as fast when it has at least this part of the fastest core's capacity, in percent.
///
/// RK3588 lists 1024 for its A76 and 530 for its A55; two clusters of the same core may differ by a few percent.
const FAST_CAPACITY_PERCENT: u32 = 80;

/// More threads than this are a mistake in a configuration.
const MAX_THREADS: usize = 256;

/// How many compute threads there are and where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadSettings {
    /// Number of threads; `None` takes one for each fast core.
    pub threads: Option<NonZeroUsize>,
    /// Binds each thread to one core, the fastest cores first.
    pub pin: bool,
}

/// Why there is no thread pool.
#[derive(Debug, thiserror::Error)]
pub enum ThreadError {
    /// More threads than any machine that this runs on can use.
    #[error(
        "{0} compute threads are too many, at most {MAX_THREADS} are possible; lower the number of threads"
    )]
    TooMany(usize),
    /// Fewer cores than threads that should be bound to one each.
    #[error(
        "cannot pin {threads} compute threads to the {cores} cores this process may use; \
         lower the number of threads or turn pinning off"
    )]
    TooFewCores {
        /// Threads asked for.
        threads: usize,
        /// Cores that the process may run on.
        cores: usize,
    },
    /// The operating system refused to start or to bind a thread.
    #[error(
        "cannot start {threads} compute threads: {cause}; lower the number of threads or turn pinning off"
    )]
    Start {
        /// Threads asked for.
        threads: usize,
        /// What the operating system said.
        cause: String,
    },
}

/// Compute threads that share the layers of one network.
///
/// It can be used from any thread; [`install`](Self::install) around an inference makes it fast.
#[derive(Debug)]
pub struct ThreadPool {
    /// None with one thread: the caller does everything itself.
    workers: Option<Workers>,
    threads: usize,
    cores: Vec<usize>,
}

#[derive(Debug)]
struct Workers {
    pool: rayon::ThreadPool,
    gate: Arc<Gate>,
    /// Held during an inference. Two at once would wait inside each other's layers.
    turn: Mutex<()>,
}

impl ThreadPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// More threads than cores while pinning, or a refusal of the operating system.
    pub fn new(settings: ThreadSettings) -> Result<Self, ThreadError> {
        let cores = Core::usable();
        let threads = settings.threads.map_or_else(|| Core::fast(&cores), NonZeroUsize::get);
        if threads > MAX_THREADS {
            return Err(ThreadError::TooMany(threads));
        }
        let cores = if settings.pin {
            if threads > cores.len() {
                return Err(ThreadError::TooFewCores { threads, cores: cores.len() });
            }
            cores[..threads].iter().map(|core| core.index).collect()
        } else {
            Vec::new()
        };
        let workers = (threads > 1).then(|| Workers::start(threads, &cores)).transpose()?;
        Ok(Self { workers, threads, cores })
    }

    /// The cores that the threads are bound to, one per thread; empty without pinning and
    /// with one thread, which is the caller's.
    pub fn cores(&self) -> &[usize] {
        if self.workers.is_some() { &self.cores } else { &[] }
    }

    /// Runs an inference on one of the threads with all the others kept awake.
    ///
    /// Inferences of several callers take turns.
    pub fn install<R: Send>(&self, inference: impl FnOnce() -> R + Send) -> R {
        match &self.workers {
            None => inference(),
            Some(workers) if workers.pool.current_thread_index().is_none() => {
                let _turn = lock(&workers.turn);
                let _open = workers.gate.open();
                workers.pool.install(inference)
            }
            // Within an inference.
            Some(workers) if workers.gate.is_open() => inference(),
            Some(workers) => {
                let _open = workers.gate.open();
                inference()
            }
        }
    }

    /// Runs a loop of inferences on one of the threads, which saves handing over each of them:
    /// that would allocate now and then. The others sleep between inferences, each of which
    /// still goes through [`install`](Self::install). Other callers wait until the loop ends.
    pub fn enter<R: Send>(&self, inferences: impl FnOnce() -> R + Send) -> R {
        match &self.workers {
            Some(workers) if workers.pool.current_thread_index().is_none() => {
                let _turn = lock(&workers.turn);
                workers.pool.install(inferences)
            }
            _ => inferences(),
        }
    }
}

impl Parallel for ThreadPool {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_none() || parts <= 1 {
            (0..parts).for_each(task);
            return;
        }
        self.install(|| {
            let layer = Layer { task, left: AtomicUsize::new(parts) };
            layer.run(0, parts);
        });
    }
}

/// The parts of one layer.
struct Layer<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    /// Parts that have not finished.
    left: AtomicUsize,
}

/// Counts a part as finished even when it panics, so that nobody waits for it for ever.
struct Finished<'a>(&'a AtomicUsize);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl Layer<'_> {
    /// Halves the parts until one is left, so the first thread always gets the first parts
    /// and finds its part of the previous layer's output in its cache.
    fn run(&self, start: usize, end: usize) {
        if end - start > 1 {
            let middle = start + (end - start).div_ceil(2);
            rayon::join(|| self.run(start, middle), || self.run(middle, end));
            return;
        }
        {
            let _finished = Finished(&self.left);
            (self.task)(start);
        }
        // `join` would put a thread to sleep that waits for another one's part.
        while self.left.load(Ordering::Acquire) != 0 {
            look_for_work();
        }
    }
}

/// Runs a waiting piece of work of this pool, or pauses for a moment.
fn look_for_work() {
    if rayon::yield_now() != Some(rayon::Yield::Executed) {
        for _ in 0..8 {
            std::hint::spin_loop();
        }
    }
}

impl Workers {
    fn start(threads: usize, cores: &[usize]) -> Result<Self, ThreadError> {
        let refused = |cause: String| ThreadError::Start { threads, cause };
        let failure: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let pin = {
            let (cores, failure) = (cores.to_vec(), Arc::clone(&failure));
            move |thread: usize| {
                if let Some(Err(error)) = cores.get(thread).map(|&core| bind_to(core)) {
                    *lock(&failure) = Some(error);
                }
            }
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("compute-{index}"))
            .start_handler(pin)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        // Every thread has run its start handler once it has answered.
        pool.broadcast(|_| ());
        if let Some(error) = lock(&failure).take() {
            return Err(refused(error.to_string()));
        }
        let gate = Arc::new(Gate::default());
        let resident = Arc::clone(&gate);
        // One thread stays free: it runs the inference.
        pool.spawn_broadcast(move |context| {
            if context.index() != 0 {
                resident.stay();
            }
        });
        Ok(Self { pool, gate, turn: Mutex::new(()) })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.gate.close();
    }
}

/// Keeps workers awake while it is open.
#[derive(Debug, Default)]
struct Gate {
    open: AtomicBool,
    closed_for_good: Mutex<bool>,
    changed: Condvar,
}

struct Open<'a>(&'a Gate);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::Release);
    }
}

impl Gate {
    fn open(&self) -> Open<'_> {
        {
            let _guard = lock(&self.closed_for_good);
            self.open.store(true, Ordering::Release);
        }
        self.changed.notify_all();
        Open(self)
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn close(&self) {
        *lock(&self.closed_for_good) = true;
        self.changed.notify_all();
    }

    /// What a worker does for its whole life.
    fn stay(&self) {
        loop {
            let mut closed = lock(&self.closed_for_good);
            while !*closed && !self.is_open() {
                closed = self.changed.wait(closed).unwrap_or_else(PoisonError::into_inner);
            }
            if *closed {
                return;
            }
            drop(closed);
            while self.is_open() {
                look_for_work();
            }
        }
    }
}

/// Locks; a panic of another holder leaves nothing half done in what this module guards.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A core that this process may run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Core {
    index: usize,
    /// Speed relative to the fastest core of the machine, which has 1024.
    capacity: u32,
}

/// The number of the fastest core that this process may use.
pub(crate) fn fastest_core() -> usize {
    Core::usable().first().map_or(0, |core| core.index)
}

impl Core {
    /// The usable cores, the fastest first, then by number.
    fn usable() -> Vec<Self> {
        let capacity = |index| {
            let path = format!("/sys/devices/system/cpu/cpu{index}/cpu_capacity");
            fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
        };
        let cores = allowed_cores().into_iter().map(|index| Self { index, capacity: capacity(index) });
        Self::fastest_first(cores.collect())
    }

    fn fastest_first(mut cores: Vec<Self>) -> Vec<Self> {
        cores.sort_by_key(|core| (core.capacity.wrapping_neg(), core.index));
        cores
    }

    /// How many of `cores`, the fastest first, are fast; at least one.
    fn fast(cores: &[Self]) -> usize {
        let limit = cores.first().map_or(0, |core| core.capacity) * FAST_CAPACITY_PERCENT / 100;
        cores.iter().take_while(|core| core.capacity >= limit).count().max(1)
    }
}

#[cfg(target_os = "linux")]
fn allowed_cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    let known = set
        .map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect::<Vec<_>>());
    known.ok().filter(|cores| !cores.is_empty()).unwrap_or_else(counted_cores)
}

#[cfg(not(target_os = "linux"))]
fn allowed_cores() -> Vec<usize> {
    counted_cores()
}

fn counted_cores() -> Vec<usize> {
    (0..thread::available_parallelism().map_or(1, NonZeroUsize::get)).collect()
}

#[cfg(target_os = "linux")]
fn bind_to(core: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn bind_to(_core: usize) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "threads can only be pinned on Linux"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::panic;

    fn pool(threads: usize) -> ThreadPool {
        ThreadPool::new(ThreadSettings { threads: NonZeroUsize::new(threads), pin: false }).unwrap()
    }

    fn counts(pool: &ThreadPool, parts: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
        pool.run(parts, &|part| {
            counts[part].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_part_runs_exactly_once_inside_and_outside_of_install() {
        for threads in 1..=8 {
            let pool = pool(threads);
            for parts in 0..20 {
                assert_eq!(counts(&pool, parts), vec![1; parts]);
            }
            pool.install(|| {
                for parts in 0..20 {
                    assert_eq!(counts(&pool, parts), vec![1; parts]);
                }
            });
        }
    }

    #[test]
    fn what_a_part_wrote_is_seen_by_the_next_layer() {
        let pool = pool(4);
        let cells: Vec<_> = (0..16).map(|_| AtomicUsize::new(0)).collect();
        pool.install(|| {
            for layer in 0..1000 {
                pool.run(cells.len(), &|part| {
                    let right = cells[(part + 1) % cells.len()].load(Ordering::Relaxed);
                    assert!(right == layer || right == layer + 1);
                    cells[part].store(layer + 1, Ordering::Relaxed);
                });
            }
        });
    }

    #[test]
    fn several_callers_take_turns() {
        let pool = pool(3);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.install(|| assert_eq!(counts(&pool, 7), vec![1; 7]));
                        assert_eq!(counts(&pool, 5), vec![1; 5]);
                    }
                });
            }
        });
    }

    #[test]
    fn the_threads_of_the_pool_share_the_parts() {
        let pool = pool(2);
        let seen = Mutex::new(HashSet::new());
        // Each part waits until the other one has started: only two threads can finish this.
        let started = AtomicUsize::new(0);
        pool.run(2, &|_| {
            started.fetch_add(1, Ordering::SeqCst);
            while started.load(Ordering::SeqCst) < 2 {
                thread::yield_now();
            }
            lock(&seen).insert(thread::current().id());
        });
        let seen = lock(&seen);
        assert_eq!(seen.len(), 2);
        assert!(!seen.contains(&thread::current().id()));
    }

    #[test]
    fn one_thread_is_the_callers() {
        let (pool, caller) = (pool(1), thread::current().id());
        assert_eq!(pool.install(|| thread::current().id()), caller);
        pool.run(3, &|_| assert_eq!(thread::current().id(), caller));
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller_and_the_pool_lives_on() {
        let pool = pool(2);
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            pool.run(4, &|part| assert_ne!(part, 2, "part two fails"));
        }));
        assert!(result.is_err());
        assert_eq!(counts(&pool, 4), vec![1; 4]);
    }

    #[test]
    fn fast_cores_come_first_and_are_counted() {
        let core = |index, capacity| Core { index, capacity };
        let rk3588 = [(0, 530), (1, 530), (2, 530), (3, 530), (4, 1022), (5, 1022), (6, 1024), (7, 1024)];
        let sorted = Core::fastest_first(rk3588.iter().map(|&(i, c)| core(i, c)).collect());
        assert_eq!(sorted.iter().map(|core| core.index).collect::<Vec<_>>(), [6, 7, 4, 5, 0, 1, 2, 3]);
        assert_eq!(Core::fast(&sorted), 4);
        assert_eq!(Core::fast(&[core(0, 1024), core(1, 1024)]), 2);
        assert_eq!(Core::fast(&[]), 1);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let settings = |threads, pin| ThreadSettings { threads: NonZeroUsize::new(threads), pin };
        let error = ThreadPool::new(settings(100_000, false)).unwrap_err().to_string();
        assert!(error.contains("100000"), "{error}");
        let cores = Core::usable().len();
        let error = ThreadPool::new(settings(cores + 1, true)).unwrap_err().to_string();
        assert!(error.contains("pinning off"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pinned_threads_run_on_their_core() {
        let threads = Core::usable().len().min(4);
        let settings = ThreadSettings { threads: NonZeroUsize::new(threads), pin: true };
        let pool = ThreadPool::new(settings).unwrap();
        let Some(workers) = &pool.workers else { return };
        let open = workers.gate.open();
        let allowed = workers.pool.install(allowed_cores);
        drop(open);
        assert_eq!(allowed.len(), 1);
        assert!(pool.cores().contains(&allowed[0]));
    }
}
