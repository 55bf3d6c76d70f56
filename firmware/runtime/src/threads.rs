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
//!
//! A thread that has waited for a millisecond, longer than balanced parts differ, lets others run
//! on its core. Under `SCHED_FIFO` nobody else would make it: with as many threads awake as there are
//! cores, neither a part nor the end of an inference could come from a thread without a core.
//!
//! # Fast and slow cores
//! All parts of a layer are about equal, so all threads run on the fast cores of a machine that
//! has two kinds (RK3588), pinned or not. A Cortex-A55 has a quarter of an A76's products per
//! cycle (llvm-mca, see `docs/figures`) and three quarters of its clock: four of them could add a
//! fifth at most, and would have to be given parts of a fifth of the size to do so. They are left to
//! the camera and the outputs.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use resight_base::sync::lock;
use resight_kernels::Parallel;

/// A core counts as fast when it has at least this part of the fastest core's capacity, in percent.
///
/// RK3588 lists 1024 for its A76 and 530 for its A55; two clusters of the same core may differ by a few percent.
const FAST_CAPACITY_PERCENT: u32 = 80;

/// More threads than this are a mistake in a configuration.
const MAX_THREADS: usize = 256;

/// Fruitless rounds after which a waiting thread lets others run on its core, about a millisecond.
const PATIENCE: u32 = 1 << 12;

/// Where the kernel describes its CPUs.
pub(crate) const CPUS: &str = "/sys/devices/system/cpu";

/// How many compute threads there are and where they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadSettings {
    /// Number of threads; `None` takes one for each fast core. More than that run on slow cores as
    /// well, and every layer waits for them.
    pub threads: Option<NonZeroUsize>,
    /// Binds each thread to one core, the fastest cores first. Otherwise the threads share the fast
    /// cores, if there are slow ones and as long as they are no more than these.
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
    /// None with one thread that may run anywhere: the caller does everything itself.
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
        Self::on(&Core::usable(), settings)
    }

    /// Starts the threads on some of `cores`, the fastest first.
    fn on(cores: &[Core], settings: ThreadSettings) -> Result<Self, ThreadError> {
        let threads = settings.threads.map_or_else(|| Core::fast(cores), NonZeroUsize::get);
        if threads > MAX_THREADS {
            return Err(ThreadError::TooMany(threads));
        }
        let places = places(cores, threads, settings.pin)?;
        let workers =
            (threads > 1 || !places.is_empty()).then(|| Workers::start(threads, &places)).transpose()?;
        let mut cores = places.concat();
        cores.sort_unstable();
        cores.dedup();
        Ok(Self { workers, threads, cores })
    }

    /// The cores that the threads are bound to, in ascending order; empty when they may run on any.
    pub fn cores(&self) -> &[usize] {
        &self.cores
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
            let layer = LayerParts { task, left: AtomicUsize::new(parts) };
            layer.run(0, parts);
        });
    }
}

/// The parts of one layer.
struct LayerParts<'a> {
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

impl LayerParts<'_> {
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
        look_for_work_while(|| self.left.load(Ordering::Acquire) != 0);
    }
}

/// Runs waiting pieces of work of this pool, awake, as long as `waiting` says so.
fn look_for_work_while(waiting: impl Fn() -> bool) {
    let mut fruitless = 0;
    while waiting() {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            fruitless = 0;
            continue;
        }
        fruitless += 1;
        if fruitless == PATIENCE {
            fruitless = 0;
            thread::yield_now();
        }
        for _ in 0..8 {
            std::hint::spin_loop();
        }
    }
}

impl Workers {
    /// Starts threads, each bound to its place if there are places.
    fn start(threads: usize, places: &[Vec<usize>]) -> Result<Self, ThreadError> {
        let refused = |cause: String| ThreadError::Start { threads, cause };
        let failure: Arc<Mutex<Option<io::Error>>> = Arc::default();
        let pin = {
            let (places, failure) = (places.to_vec(), Arc::clone(&failure));
            move |thread: usize| {
                if let Some(Err(error)) = places.get(thread).map(|cores| bind_to(cores)) {
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
            look_for_work_while(|| self.is_open());
        }
    }
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
        Self::described(Path::new(CPUS), &allowed_cores())
    }

    /// These cores as `cpus` describes them. Their capacities come from the device tree, or else
    /// from their highest clocks; where either is not known of all, they are equal.
    fn described(cpus: &Path, indices: &[usize]) -> Vec<Self> {
        let numbers = |file: &str| -> Option<Vec<u64>> {
            let number = |index: &usize| fs::read_to_string(cpus.join(format!("cpu{index}/{file}"))).ok();
            let parsed = indices.iter().map(|index| number(index)?.trim().parse().ok());
            parsed.collect::<Option<Vec<u64>>>().filter(|numbers| !numbers.contains(&0))
        };
        let speeds = numbers("cpu_capacity").or_else(|| numbers("cpufreq/cpuinfo_max_freq"));
        let speeds = speeds.unwrap_or_else(|| vec![1; indices.len()]);
        let most = u128::from(speeds.iter().copied().max().unwrap_or(1));
        let capacity = |speed: u64| (u128::from(speed) * 1024 / most) as u32;
        let cores = indices.iter().zip(speeds);
        Self::fastest_first(cores.map(|(&index, speed)| Self { index, capacity: capacity(speed) }).collect())
    }

    fn fastest_first(mut cores: Vec<Self>) -> Vec<Self> {
        cores.sort_by_key(|core| (Reverse(core.capacity), core.index));
        cores
    }

    /// How many of `cores`, the fastest first, are fast; at least one.
    fn fast(cores: &[Self]) -> usize {
        let limit = cores.first().map_or(0, |core| core.capacity) * FAST_CAPACITY_PERCENT / 100;
        cores.iter().take_while(|core| core.capacity >= limit).count().max(1)
    }
}

/// The cores that each of so many threads is bound to; nothing when all may run anywhere.
fn places(cores: &[Core], threads: usize, pin: bool) -> Result<Vec<Vec<usize>>, ThreadError> {
    let fast = Core::fast(cores);
    if pin {
        if threads > cores.len() {
            return Err(ThreadError::TooFewCores { threads, cores: cores.len() });
        }
        Ok(cores[..threads].iter().map(|core| vec![core.index]).collect())
    } else if fast < cores.len() && threads <= fast {
        Ok(vec![cores[..fast].iter().map(|core| core.index).collect(); threads])
    } else {
        Ok(vec![])
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
fn bind_to(cores: &[usize]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(not(target_os = "linux"))]
fn bind_to(_cores: &[usize]) -> io::Result<()> {
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

    /// Cores that are equal.
    fn equal(count: usize) -> Vec<Core> {
        (0..count).map(|index| Core { index, capacity: 1024 }).collect()
    }

    #[test]
    fn one_thread_that_may_run_anywhere_is_the_callers() {
        let settings = ThreadSettings { threads: NonZeroUsize::new(1), pin: false };
        let (pool, caller) = (ThreadPool::on(&equal(2), settings).unwrap(), thread::current().id());
        assert_eq!(pool.install(|| thread::current().id()), caller);
        pool.run(3, &|_| assert_eq!(thread::current().id(), caller));
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller_and_the_pool_lives_on() {
        let pool = pool(2);
        let result = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            pool.run(4, &|part| assert_ne!(part, 2, "part two fails"));
        }));
        let panicked = result.unwrap_err().downcast::<String>().unwrap();
        assert!(panicked.contains("part two fails"), "{panicked}");
        assert_eq!(counts(&pool, 4), vec![1; 4]);
    }

    /// A folder like sysfs' with one file for each core.
    fn cpus(file: &str, values: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (index, value) in values.iter().enumerate() {
            let file = folder.path().join(format!("cpu{index}/{file}"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{value}\n")).unwrap();
        }
        folder
    }

    fn order(cores: &[Core]) -> Vec<usize> {
        cores.iter().map(|core| core.index).collect()
    }

    const RK3588: [&str; 8] = ["530", "530", "530", "530", "1022", "1022", "1024", "1024"];

    #[test]
    fn fast_cores_come_first_and_are_counted() {
        let folder = cpus("cpu_capacity", &RK3588);
        let all = Core::described(folder.path(), &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(order(&all), [6, 7, 4, 5, 0, 1, 2, 3]);
        assert_eq!(Core::fast(&all), 4);
        // A process that may only use these: the fastest it has are fast.
        let little = Core::described(folder.path(), &[1, 3]);
        assert_eq!((order(&little), Core::fast(&little)), (vec![1, 3], 2));
        let mixed = Core::described(folder.path(), &[3, 4, 5]);
        assert_eq!((order(&mixed), Core::fast(&mixed)), (vec![4, 5, 3], 2));
        assert_eq!(Core::fast(&equal(2)), 2);
        assert_eq!(Core::fast(&[]), 1);
    }

    #[test]
    fn without_capacities_the_highest_clock_decides() {
        let clocks = ["1800000", "1800000", "2400000", "2352000"];
        let cores = Core::described(cpus("cpufreq/cpuinfo_max_freq", &clocks).path(), &[0, 1, 2, 3]);
        assert_eq!((order(&cores), Core::fast(&cores)), (vec![2, 3, 0, 1], 2));
    }

    #[test]
    fn cores_that_nobody_describes_are_equal() {
        let unknown = [cpus("online", &["1"; 3]), cpus("cpu_capacity", &["1024", "fast", "1024"])];
        for folder in unknown.iter().chain([&cpus("cpu_capacity", &["1024", "0", "1024"])]) {
            assert_eq!(Core::described(folder.path(), &[0, 1, 2]), equal(3));
        }
        let capacity = u64::MAX.to_string();
        let folder = cpus("cpu_capacity", &[&capacity, "1"]);
        assert_eq!(Core::fast(&Core::described(folder.path(), &[0, 1])), 1);
    }

    #[test]
    fn threads_keep_to_the_fast_cores() {
        let cores = Core::described(cpus("cpu_capacity", &RK3588).path(), &[0, 1, 2, 3, 4, 5, 6, 7]);
        let fast = vec![6, 7, 4, 5];
        assert_eq!(places(&cores, 4, false).unwrap(), vec![fast.clone(); 4]);
        assert_eq!(places(&cores, 1, false).unwrap(), [fast]);
        // More threads than fast cores were asked for.
        assert!(places(&cores, 5, false).unwrap().is_empty());
        assert_eq!(places(&cores, 3, true).unwrap(), [[6], [7], [4]]);
        assert_eq!(places(&cores, 5, true).unwrap()[4], [0]);
        assert!(places(&equal(4), 4, false).unwrap().is_empty());
        let error = places(&equal(4), 5, true).unwrap_err();
        assert!(matches!(error, ThreadError::TooFewCores { threads: 5, cores: 4 }), "{error}");
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
        for threads in 1..=Core::usable().len().min(4) {
            let settings = ThreadSettings { threads: NonZeroUsize::new(threads), pin: true };
            let pool = ThreadPool::new(settings).unwrap();
            assert_eq!(pool.cores().len(), threads);
            let allowed = pool.install(allowed_cores);
            assert_eq!(allowed.len(), 1);
            assert!(pool.cores().contains(&allowed[0]));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn unpinned_threads_share_the_fast_cores() {
        let mut cores = Core::usable();
        let [fast, .., slow] = &mut cores[..] else {
            resight_fixtures::skipped("it takes two cores");
            return;
        };
        slow.capacity = fast.capacity / 2;
        let (fast, slow) = (fast.index, slow.index);
        let pool = ThreadPool::on(&cores, ThreadSettings::default()).unwrap();
        let allowed = pool.install(allowed_cores);
        assert!(allowed.contains(&fast) && !allowed.contains(&slow), "{allowed:?}");
        assert_eq!(pool.cores(), allowed);
    }

    /// What [`a_first_in_first_out_scheduler_starves_nobody`] runs in a process of its own.
    #[test]
    #[ignore = "run by another test, with a real-time scheduler and one core"]
    fn two_threads_on_one_core() {
        let pool = pool(2);
        pool.run(2, &|part| {
            // Whoever has this part gives up the core, which the other one then waits on.
            if part == 1 {
                thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_first_in_first_out_scheduler_starves_nobody() {
        use std::process::Command;
        use std::time::{Duration, Instant};
        let core = Core::usable()[0].index.to_string();
        let on_one_core = |command: &mut Command, program: &std::path::Path| {
            command.args(["--fifo", "1", "taskset", "--cpu-list", &core]).arg(program);
        };
        let this = std::env::current_exe().unwrap();
        let mut check = Command::new("chrt");
        // With the test's own program: under an emulator the kernel may not know how to start it.
        on_one_core(&mut check, &this);
        if !check.arg("--list").output().is_ok_and(|output| output.status.success()) {
            resight_fixtures::skipped("chrt or taskset is missing or not allowed, or an emulator runs this");
            return;
        }
        let mut command = Command::new("chrt");
        on_one_core(&mut command, &this);
        command.args(["--exact", "threads::tests::two_threads_on_one_core", "--ignored", "--quiet"]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > Duration::from_secs(20) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("a thread that waits keeps the core from the one that it waits for");
            }
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
    }
}
