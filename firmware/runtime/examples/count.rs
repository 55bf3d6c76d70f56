//! Runs the network of a model file once, on one thread.
//!
//! For counting guest instructions per step under QEMU (`cross/measure/count_model`): each step is preceded
//! by the mark that the plugin in `cross/measure/counter` listens to, and printed with its
//! multiply-accumulate operations. Of a detector the last one makes 100 boxes of its maps. Elsewhere the
//! mark is a harmless system call.
//!
//! Usage: `count MODEL [L1,L2,L3 [CORES [whole]]]`; `RESIGHT_ISA` chooses the instruction set. Caches are those that the
//! network is packed for, in KiB, 0 for no third level; with `CORES`, so many share the second level, the
//! network is cut for as many threads, and its parts run in turn; with `whole`, no layer runs band by band.

#![allow(clippy::print_stdout, reason = "an example prints what it measures")]

#[path = "../benches/boxes/mod.rs"]
mod boxes;

use std::ffi::{c_int, c_uint};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use resight_runtime::tract::{TractResult, bail};
use resight_runtime::{CacheSizes, Head, Model, Parallel, Program, Target};

unsafe extern "C" {
    /// From the C library: std has no name for it.
    fn getpriority(which: c_int, who: c_uint) -> c_int;
}

/// What follows is not counted.
const OUTSIDE: usize = 65536;

fn mark(id: usize) {
    // SAFETY: takes two integers, touches no memory.
    unsafe { getpriority(0x4d41_524b, id as c_uint) };
}

/// The mark of a part: as many times this as its number, from 1 on, and its step.
const PART: usize = 131_072;

/// Cuts layers for some threads and runs the parts in turn, each after a mark of its own.
struct InTurn {
    threads: usize,
    /// The step that runs.
    step: AtomicUsize,
}

impl Parallel for InTurn {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        let step = self.step.load(Ordering::Relaxed);
        for part in 0..parts {
            if step != OUTSIDE && self.threads > 1 {
                mark((part + 1) * PART + step);
            }
            task(part);
        }
        if step != OUTSIDE && self.threads > 1 {
            mark(step);
        }
    }
}

/// This machine, but with the caches and the cores that were asked for.
fn target(asked: &[String]) -> TractResult<Target> {
    let mut target = Target::of_this_machine()?;
    if let Some(sizes) = asked.first() {
        let kib: Vec<usize> = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [l1d, l2, l3] = kib[..] else { bail!("caches are L1,L2,L3") };
        let l2_cores = asked.get(1).map_or(Ok(1), |cores| cores.parse())?;
        target.caches = CacheSizes { l1d: l1d << 10, l2: l2 << 10, l2_cores, l3: l3 << 10 };
        target.threads = l2_cores;
    }
    Ok(if asked.get(2).is_some_and(|order| order == "whole") { target.with_whole_layers() } else { target })
}

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, asked @ ..] = arguments.as_slice() else { bail!("a model file is expected") };
    let model = Model::load(Path::new(model))?;
    let target = target(asked)?;
    let parallel = &InTurn { threads: target.threads, step: AtomicUsize::new(OUTSIDE) };
    let mut program = Program::compile(model.graph(), model.layers(), &target)?;
    let Some(golden) = model.golden().first() else { bail!("the model file has no golden vector") };
    for (index, step) in program.steps().iter().enumerate() {
        println!(
            "{index}\t{}\t{}\t{}\t{}",
            step.name.replace('\t', " "),
            step.operator,
            step.kernel,
            step.macs
        );
    }
    let steps = program.steps().len();
    // What a first run alone does, such as touching memory, is not counted; a mark starts the model of caches.
    mark(OUTSIDE);
    let outputs = program.run(parallel, &golden.input)?;
    let decoding = match model.head() {
        Head::Boxes(head) => {
            let (head, found) = boxes::finding(head, outputs, 100)?;
            println!("{steps}\t{found} boxes\tdecoding\t\t0");
            let mut memory = head.memory();
            head.decode(outputs, &mut memory)?;
            Some((head, memory))
        }
        _ => None,
    };
    let outputs = program.run_announced(parallel, &golden.input, |step| {
        parallel.step.store(step, Ordering::Relaxed);
        mark(step);
    })?;
    parallel.step.store(OUTSIDE, Ordering::Relaxed);
    mark(OUTSIDE);
    if let Some((head, mut memory)) = decoding {
        mark(steps);
        let decoded = head.decode(outputs, &mut memory);
        mark(OUTSIDE);
        decoded?;
    }
    Ok(())
}
