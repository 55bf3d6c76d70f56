//! An inference of a detector, and what is made of its maps with so low a threshold that it finds 100 boxes.
//!
//! `RESIGHT_MODEL=boxes.resight.tar cargo bench -p resight-runtime` measures another one than the bundled
//! one. On one thread; `RESIGHT_ISA` chooses the instruction set.
#![allow(missing_docs)]

mod boxes;

use std::env::var_os;
use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use resight_runtime::{Head, Model, Sequential, Target};

const BUNDLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/markers/detector.resight.tar");

fn decoding(criterion: &mut Criterion) {
    let path = var_os("RESIGHT_MODEL").map_or(BUNDLED.into(), PathBuf::from);
    let model = Model::load(&path).expect("a model file");
    let Head::Boxes(head) = model.head() else { panic!("a model file that finds boxes") };
    let target = Target::of_this_machine().expect("an instruction set of this CPU");
    let mut program = model.compile(&target).expect("a network for it");
    let golden = model.golden().first().expect("a golden vector");
    let mut group = criterion.benchmark_group(model.name());
    group.sample_size(20);
    group.bench_function("inference", |bencher| {
        bencher.iter(|| program.run(&Sequential, black_box(&golden.input)).is_ok());
    });
    let outputs = program.run(&Sequential, &golden.input).expect("an input of its size");
    let (head, found) = boxes::finding(head, outputs, 100).expect("its own outputs");
    let mut memory = head.memory();
    group.bench_function(format!("decoding {found} boxes"), |bencher| {
        bencher.iter(|| head.decode(black_box(outputs), &mut memory).is_ok());
    });
    group.finish();
}

criterion_group!(benches, decoding);
criterion_main!(benches);
