//! Runs the network of a model file once, on one thread.
//!
//! For counting guest instructions per step under QEMU (`cross/measure/count_model`): each step is preceded
//! by the mark that the plugin in `cross/measure/counter` listens to, and printed with its
//! multiply-accumulate operations. Of a detector the last one makes 100 boxes of its maps. Elsewhere the
//! mark is a harmless system call.
//!
//! Usage: `count MODEL`; `RESIGHT_ISA` chooses the instruction set.

#![allow(clippy::print_stdout, reason = "an example prints what it measures")]

#[path = "../benches/boxes/mod.rs"]
mod boxes;

use std::ffi::{c_int, c_uint};
use std::path::Path;

use resight_runtime::tract::{TractResult, bail};
use resight_runtime::{Head, Model, Program, Sequential, Target};

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

fn main() -> TractResult<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model] = arguments.as_slice() else { bail!("a model file is expected") };
    let model = Model::load(Path::new(model))?;
    let target = Target::of_this_machine()?;
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
    // What a first run alone does, such as touching memory, is not counted.
    let outputs = program.run(&Sequential, &golden.input)?;
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
    mark(0);
    let outputs = program.run_stepwise(&Sequential, &golden.input, |index| {
        mark(if index + 1 < steps { index + 1 } else { OUTSIDE });
    })?;
    if let Some((head, mut memory)) = decoding {
        mark(steps);
        let decoded = head.decode(outputs, &mut memory);
        mark(OUTSIDE);
        decoded?;
    }
    Ok(())
}
