//! What the service does while nothing happens, and while nobody listens.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::{Service, Workshop, endless, gather, set_input, wait_for, write_raw};

const RULE: &str = "[[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nthreshold = 0.9\nlines = [\"lamp\"]\n";

/// A pipe that has no room for one more byte.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(writer.as_fd(), true).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::io::ioctl_fionbio(writer.as_fd(), false).unwrap();
    (reader, writer)
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let workshop = Workshop::new(&endless(), RULE);
    write_raw(&workshop.path("a.rgb"), 3);
    let (log, writer) = full_pipe();
    let mut command = workshop.command(&["run", "c.toml"]);
    let mut child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    // The command keeps its end of the pipe.
    drop(command);
    let events = gather(child.stdout.take().unwrap());
    let mut service = Service { child, events, log: std::sync::Arc::default() };
    service.expect_event("active");
    service.signal("TERM");
    assert!(service.finish(), "the end is no success");
    drop(log);
}

#[test]
fn lines_are_made_safe_though_nobody_reads_what_is_told() {
    let workshop = Workshop::new(&endless(), RULE);
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let second = "[[line]]\nname = \"horn\"\nbackend = \"virtual\"\n";
    fs::write(workshop.path("c.toml"), format!("{text}{second}")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = workshop.command(&["safe", "c.toml"]);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    for line in ["lamp", "horn"] {
        assert!(log.contains(&format!("virtual line {line}: inactive")), "{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// How often the threads of a process went to sleep of their own accord, so far.
fn sleeps(process: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let count = |task: fs::DirEntry| -> u64 {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse().unwrap())
    };
    tasks.map(|task| count(task.unwrap())).sum()
}

/// The same of the threads of this name.
fn sleeps_of(process: u32, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path());
    let is_meant = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let count = |task: std::path::PathBuf| -> u64 {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse().unwrap())
    };
    tasks.filter(is_meant).map(count).sum()
}

#[test]
fn an_input_that_is_a_file_is_left_asleep_until_it_changes() {
    let input = "[[input]]\nname = \"key\"\nbackend = \"file\"\npath = \"key\"\n";
    let rule = RULE.replace("threshold", "armed_by = \"key\"\nthreshold");
    let workshop = Workshop::new(&endless(), &format!("{input}{rule}"));
    write_raw(&workshop.path("a.rgb"), 3);
    set_input(&workshop, "0");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let (before, start) = (sleeps_of(service.child.id(), "input"), Instant::now());
    thread::sleep(Duration::from_secs(4));
    let rate = (sleeps_of(service.child.id(), "input") - before) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.1} wake-ups a second");
    assert!(rate > 0.0 && rate <= 5.0, "{rate:.1} wake-ups a second");
    assert!(service.events().iter().all(|event| event["event"] != "active"), "{:?}", service.events());
    set_input(&workshop, "1");
    service.expect_event("active");
}

#[test]
fn an_idle_service_is_left_asleep_by_the_kernel() {
    // A source that is there and gives nothing: whatever wakes now does so beside the frames.
    let workshop = Workshop::new("kind = \"mjpeg\"\npath = \"frames\"", RULE);
    let made = std::process::Command::new("mkfifo").arg(workshop.path("frames")).status().unwrap();
    assert!(made.success());
    let service = workshop.start();
    let address = service.address(0);
    let _writer = fs::File::options().read(true).write(true).open(workshop.path("frames")).unwrap();
    wait_for("the outputs", || {
        std::net::TcpStream::connect(&address).map(drop).map_err(|error| error.to_string())
    });
    // Its connection ends meanwhile.
    thread::sleep(Duration::from_secs(1));
    let (before, start) = (sleeps(service.child.id()), Instant::now());
    thread::sleep(Duration::from_secs(6));
    let rate = (sleeps(service.child.id()) - before) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.1} wake-ups a second");
    assert!(rate <= 5.0, "{rate:.1} wake-ups a second");
}
