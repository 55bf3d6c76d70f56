//! The loop: frames, signals, reloads, inputs, systemd, and the commands beside it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use resight_fixtures::TINY_MODEL;
use resight_model_file::{Archive, PrivateKey};
use serde_json::Value;

use crate::harness::*;

#[test]
fn every_frame_of_a_file_is_classified_and_the_rule_fires_the_line() {
    let workshop = Workshop::new(&STANDARD_INPUT.replace('-', "a.rgb"), ALWAYS);
    write_raw(&workshop.path("a.rgb"), 12);
    let mut service = workshop.start();
    assert!(service.finish());
    service.expect_log("12 frames, 12 classified, 0 dropped, 0 corrupt", 0);
    let event = service.expect_event("active");
    assert_eq!((event["rule"].as_str(), event["frame"].as_u64()), (Some("any"), Some(1)), "{event}");
    assert!(event["score"].as_f64().unwrap() > 0.99, "{event}");
    assert!(event["name"].as_str().unwrap().starts_with("thing "), "{event}");
    assert!(event["latency_ms"].as_f64().unwrap() > 0.0 && event["monotonic_ms"].as_f64().unwrap() > 0.0);
    assert!(event["wall_ms"].as_u64().unwrap() > 1_700_000_000_000, "{event}");
    // Safe at the start, on by the rule, safe at the end.
    let log = service.log.lock().unwrap();
    let states: Vec<&str> = log
        .iter()
        .filter_map(|line| line.split_once("virtual line lamp: ").map(|(_, state)| state))
        .collect();
    assert_eq!(states, ["inactive (low)", "active (high)", "inactive (low)"]);
}

#[test]
fn a_signal_leaves_the_lines_safe_and_systemd_is_told_everything() {
    for signal in ["TERM", "INT"] {
        let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
        let workshop = Workshop::new(&source, ALWAYS);
        write_raw(&workshop.path("a.rgb"), 3);
        let manager = Manager::listen(&workshop);
        let mut service = Manager::start(&workshop);
        service.expect_log("virtual line lamp: active", 0);
        manager.expect("WATCHDOG=1", 1);
        service.signal(signal);
        assert!(service.finish());
        wait_for("the last line", || {
            let lamp = service.lamp();
            lamp.contains("inactive").then_some(()).ok_or(lamp)
        });
        manager.expect("STOPPING=1", 1);
        let messages = manager.messages();
        // A slow machine may need more time to start.
        let told = messages.iter().map(String::as_str).skip_while(|told| told.starts_with("EXTEND_TIMEOUT"));
        assert_eq!(told.take(2).collect::<Vec<_>>(), ["READY=1", "WATCHDOG=1"], "{messages:?}");
    }
}

/// A restart would not bring the frames back: the watchdog is fed though nothing is classified,
/// and what is told of a start is true.
#[test]
fn without_good_frames_systemd_waits_and_a_reload_does_not_make_it_ready() {
    let workshop = Workshop::new("kind = \"mjpeg\"\npath = \"-\"", ALWAYS);
    let manager = Manager::listen(&workshop);
    let mut service = Manager::start(&workshop);
    let mut input = service.child.stdin.take().unwrap();
    // No frame at all.
    manager.expect("EXTEND_TIMEOUT_USEC=", 2);
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    assert_eq!((manager.count("READY"), manager.count("RELOADING")), (0, 0), "{:?}", manager.messages());
    // Rubbish, as often as frames.
    let mut rubbish = jpeg(60);
    rubbish[200..].iter_mut().for_each(|byte| *byte = 0x55);
    rubbish.extend([0xff, 0xd9]);
    let spoil = |input: &mut std::process::ChildStdin, until: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !until() && start.elapsed() < PATIENCE {
            input.write_all(&rubbish).unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    };
    let extended = manager.count("EXTEND_TIMEOUT_USEC=");
    spoil(&mut input, &|| manager.count("EXTEND_TIMEOUT_USEC=") >= extended + 2);
    manager.expect("EXTEND_TIMEOUT_USEC=", extended + 2);
    let status = service.status();
    assert!(status["corrupt"].as_u64() > Some(5), "{status}");
    assert_eq!((&status["inferences"], &status["stale"]), (&0.into(), &true.into()), "{status}");
    assert_eq!(manager.count("READY"), 0);

    input.write_all(&[&jpeg(60)[..], &jpeg(60)].concat()).unwrap();
    manager.expect("READY=1", 1);
    service.expect_event("active");
    let fed = manager.count("WATCHDOG=1");
    spoil(&mut input, &|| manager.count("WATCHDOG=1") >= fed + 3);
    manager.expect("WATCHDOG=1", fed + 3);
    // But it is no frame: the lines went to their safe levels.
    service.expect_event("stale");
    assert_eq!(service.status()["lines"]["lamp"], false);
    service.signal("HUP");
    manager.expect("RELOADING=1\nMONOTONIC_USEC=", 1);
    manager.expect("READY=1", 2);
    assert_eq!(service.status()["source"]["state"], "silent");
}

/// Each frame waits for the one before, so all that come are classified, whatever is reloaded.
#[test]
fn reloads_drop_no_frame() {
    let source = STANDARD_INPUT.replace('-', "a.rgb");
    let paced = format!("{source}\n[pace]\nrate = 100");
    let workshop = Workshop::new(&paced, ALWAYS);
    write_raw(&workshop.path("a.rgb"), 600);
    let mut service = workshop.start();
    service.expect_log("ready", 0);
    for reload in 0..3 {
        workshop.configure(&paced, &ALWAYS.replace("any", &format!("any{reload}")));
        service.signal("HUP");
        service.expect_log("reloaded", reload);
    }
    assert!(service.finish());
    service.expect_log("600 frames, 600 classified, 0 dropped, 0 corrupt", 0);
}

/// Failure table: SIGTERM in every state.
#[test]
fn a_signal_ends_the_service_in_every_state() {
    let fifo = "kind = \"raw\"\npath = \"frames\"\nformat = \"rgb24\"\nwidth = 32\nheight = 32";
    let camera = "kind = \"camera\"\ndevice = \"/dev/no-such-camera\"";
    let mqtt = "[output.mqtt]\nurl = \"mqtt://127.0.0.1:9\"\n[[line]]";
    let endless = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let states: [(&str, &str, &str); 6] = [
        ("starting", &endless, ""),
        ("no frame yet", STANDARD_INPUT, "listening"),
        ("nobody writes into the FIFO", fifo, "listening"),
        ("no camera", camera, "no such device"),
        ("stale", STANDARD_INPUT, "no frame for 400 ms"),
        ("reloading", &endless, "ready"),
    ];
    for (state, source, words) in states {
        let workshop = Workshop::new(source, ALWAYS);
        write_raw(&workshop.path("a.rgb"), 3);
        assert!(Command::new("mkfifo").arg(workshop.path("frames")).status().unwrap().success());
        let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
        fs::write(workshop.path("c.toml"), text.replacen("[[line]]", mqtt, 1)).unwrap();
        let mut service = workshop.start();
        if state == "stale" {
            service.child.stdin.as_mut().unwrap().write_all(&raw_frame()).unwrap();
        }
        if words.is_empty() {
            // As early as signals are handled: the program was loaded and reads its files.
            service.expect_log("virtual line lamp", 0);
        } else {
            service.expect_log(words, 0);
        }
        if state == "reloading" {
            for _ in 0..3 {
                service.signal("HUP");
            }
        }
        let start = Instant::now();
        service.signal("TERM");
        assert!(service.finish(), "{state}");
        // Far from the 10 s after which systemd kills; a busy machine is slow.
        assert!(start.elapsed() < Duration::from_secs(8), "{state}: {:?}", start.elapsed());
        wait_for("the last line", || {
            let lamp = service.lamp();
            lamp.contains("inactive").then_some(()).ok_or(format!("{state}: {lamp}"))
        });
    }
}

#[test]
fn a_bad_reload_is_refused_and_a_good_one_applied() {
    let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let workshop = Workshop::new(&source, "");
    write_raw(&workshop.path("a.rgb"), 3);
    let service = workshop.start();
    service.expect_log("ready", 0);

    workshop.configure(&source, "[[rule]]\nname = \"x\"\nclasses = [\"unicorn\"]\n");
    service.signal("HUP");
    let line = service.expect_log("reload refused", 0);
    assert!(line.contains("c.toml:") && line.contains("unicorn"), "{line}");

    workshop.configure(&source, ALWAYS);
    fs::write(workshop.path("m.tar"), b"rubbish").unwrap();
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 1).contains("not a resight model"));
    fs::remove_file(workshop.path("c.toml")).unwrap();
    service.signal("HUP");
    service.expect_log("reload refused", 2);
    assert!(service.events().is_empty());
    let status = service.status();
    assert_eq!(
        (status["reloads_refused"].as_u64(), status["lines"]["lamp"].as_bool()),
        (Some(3), Some(false))
    );

    fs::write(workshop.path("m.tar"), TINY_MODEL).unwrap();
    workshop.configure(&source, ALWAYS);
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    service.expect_event("active");
    assert_eq!(service.status()["reloads"], 1);
}

#[test]
fn a_source_can_be_changed_while_running() {
    let source = |file: &str| format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', file));
    let workshop = Workshop::new(&source("a.rgb"), ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    let service = workshop.start();
    service.expect_log("ready", 0);
    workshop.configure(&source("missing.rgb"), ALWAYS);
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 0).contains("missing.rgb"));
    workshop.configure("kind = \"mjpeg\"\npath = \"b.mjpeg\"\nrepeat = true\nrate = 50", ALWAYS);
    fs::write(workshop.path("b.mjpeg"), [&jpeg(16)[..], b"rubbish", &jpeg(200)[..200]].concat()).unwrap();
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    // Only the new source has corrupt frames.
    wait_for("corrupt frames", || {
        let status = service.status();
        (status["corrupt"].as_u64() > Some(2)).then_some(()).ok_or(status.to_string())
    });
}

#[test]
fn corrupt_jpegs_are_counted_and_skipped() {
    let workshop = Workshop::new("kind = \"mjpeg\"\npath = \"a.mjpeg\"", ALWAYS);
    let clip = [&jpeg(20)[..], b"rubbish", &jpeg(90), &jpeg(60)[..300], &jpeg(200)].concat();
    fs::write(workshop.path("a.mjpeg"), clip).unwrap();
    let mut service = workshop.start();
    assert!(service.finish());
    service.expect_log("4 frames, 3 classified, 0 dropped, 2 corrupt", 0);
}

#[test]
fn without_frames_the_lines_are_safe_until_frames_come_again() {
    let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
    let mut service = workshop.start();
    let mut input = service.child.stdin.take().unwrap();
    assert_eq!(service.get("/healthz").0, 503);
    input.write_all(&raw_frame()).unwrap();
    service.expect_event("active");
    service.expect_event("stale");
    let status = service.status();
    assert_eq!((status["stale"].as_bool(), status["lines"]["lamp"].as_bool()), (Some(true), Some(false)));
    assert_eq!(status["source"]["state"], "silent");
    assert_eq!(service.get("/healthz").0, 503);
    input.write_all(&raw_frame()).unwrap();
    service.expect_event("recovered");
    service.expect_log("virtual line lamp: active", 1);
    drop(input);
    assert!(service.finish());
    wait_for("the last line", || {
        let lamp = service.lamp();
        lamp.contains("inactive").then_some(()).ok_or(lamp)
    });
}

#[test]
fn status_and_metrics_can_be_read() {
    let source = format!("{}\nrepeat = true\nrate = 100", STANDARD_INPUT.replace('-', "a.rgb"));
    let workshop = Workshop::new(&source, ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    let service = workshop.start();
    service.expect_event("active");
    let status = service.status();
    assert_eq!(status["model"], "net");
    assert_eq!(status["source"]["state"], "streaming");
    assert!(status["source"]["name"].as_str().unwrap().ends_with("a.rgb"), "{status}");
    let [half, most] = ["p50_ms", "p99_ms"].map(|key| status["latency"][key].as_f64().unwrap());
    assert!(0.0 < half && half <= most, "{status}");
    assert!(status["last"]["name"].as_str().unwrap().starts_with("thing "), "{status}");
    assert_eq!(service.get("/healthz").0, 200);
    assert_eq!(service.get("/other").0, 404);
    let configuration = fs::read_to_string(workshop.path("c.toml")).unwrap();
    fs::write(workshop.path("c.toml"), configuration.replace("127.0.0.1:0", &service.address(0))).unwrap();
    let health = |least| workshop.output(&["health", "c.toml", "--seconds", "1", "--at-least", least]);
    assert!(String::from_utf8(health("0.1").stdout).unwrap().ends_with("frames/s over 1 s\n"));
    let slow = health("1000000");
    assert!(!slow.status.success() && String::from_utf8(slow.stderr).unwrap().contains("are demanded"));
    let (code, metrics) = service.get("/metrics");
    assert_eq!(code, 200);
    let mut values = std::collections::HashMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(values.insert(name.to_owned(), value.parse::<f64>().unwrap()).is_none(), "{name} twice");
        let plain = name.split('{').next().unwrap();
        let base = plain.trim_end_matches("_sum").trim_end_matches("_count");
        assert!(metrics.contains(&format!("# TYPE {base} ")), "{name} has no type");
    }
    assert!(values["resight_inferences_total"] >= 1.0, "{metrics}");
    assert_eq!(values["resight_source_up"], 1.0);
    let status: Value = serde_json::from_str(&service.get("/status").1).unwrap();
    assert_eq!(values["resight_temperature_celsius"].is_nan(), status["temperature_c"].is_null());
    assert_eq!(values["resight_line_active{line=\"lamp\"}"], 1.0);
    assert!(values["resight_latency_seconds{quantile=\"0.5\"}"] > 0.0);
}

#[test]
fn the_other_commands_answer() {
    let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
    assert_eq!(workshop.ok(&["check", "c.toml"]), "c.toml: valid\n");
    let version = workshop.ok(&["--version"]);
    assert!(version.starts_with(concat!("resightd ", env!("CARGO_PKG_VERSION"), " (commit ")), "{version}");
    assert!(version.contains("features ") && version.lines().count() == 1, "{version}");
    let silent = workshop.output(&["health", "c.toml"]);
    assert!(
        !silent.status.success() && String::from_utf8(silent.stderr).unwrap().contains("does not answer")
    );
    let default = workshop.ok(&["config", "--default"]);
    fs::write(workshop.path("default.toml"), default).unwrap();
    assert!(workshop.ok(&["check", "default.toml"]).contains("valid"));
    fs::write(workshop.path("bad.toml"), "[model]\nfile = 3\nsize = 1\n").unwrap();
    let output = workshop.output(&["check", "bad.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in ["bad.toml:1: source", "bad.toml:2: model.file", "bad.toml:3: model.size: unknown key"] {
        assert!(error.contains(part), "{error}");
    }
    let output = workshop.output(&["self-test", "--model", "none.tar"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.matches("No such file").count(), 1, "{error}");
    assert!(workshop.ok(&["self-test", "--model", "m.tar"]).contains("golden vectors reproduced"));
    let bench = workshop.ok(&["bench", "--model", "m.tar", "--runs", "2", "--threads", "2"]);
    assert!(bench.contains("ms median") && bench.contains("threads        2"), "{bench}");
    let memory = bench.lines().find_map(|line| line.strip_prefix("memory ")).unwrap();
    let megabytes: f64 = memory.trim().strip_suffix(" MB at most").unwrap().parse().unwrap();
    assert!((1.0..100.0).contains(&megabytes), "{bench}");
    let bench = workshop.ok(&["bench", "--model", "m.tar", "--runs", "2", "--threads", "1", "--pin"]);
    assert!(bench.contains("threads        1, on cores "), "{bench}");
    let doctor = workshop.output(&["doctor"]);
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(doctor.status.success(), !text.contains("problem:"), "{text}");
    assert!(text.contains("kernels") && text.contains("GPIO chip"), "{text}");
    // Which kernel runs which layers here.
    assert!(resight_runtime::Isa::best().kernels().all(|(kernel, _)| text.contains(kernel)), "{text}");
    assert!(text.contains("threads       "), "{text}");
    // Whatever this machine has.
    let lines = workshop.ok(&["lines"]);
    assert!(lines.contains("/dev/gpiochip"), "{lines}");
    assert!(serde_json::from_str::<Value>(&workshop.ok(&["lines", "--json"])).unwrap().is_array());
    let cameras: Value = serde_json::from_str(&workshop.ok(&["cameras", "--json"])).unwrap();
    assert_eq!(cameras.as_array().unwrap().is_empty(), workshop.ok(&["cameras"]).contains("no /dev/video"));

    fs::write(workshop.path("a.jpg"), jpeg(100)).unwrap();
    let old = workshop.ok(&["--model", "m.tar", "--image", "a.jpg", "--top", "3"]);
    assert_eq!(old.lines().count(), 3);
    assert_eq!(old, workshop.ok(&["classify", "--model", "m.tar", "--image", "a.jpg", "--top", "3"]));
}

/// As after `| head -1` that has read enough.
#[test]
fn every_command_ends_quietly_when_nobody_reads() {
    let workshop =
        Workshop::new("kind = \"raw\"\npath = \"f.raw\"\nformat = \"rgb24\"\nwidth = 32\nheight = 32", "");
    write_raw(&workshop.path("f.raw"), 2);
    image::RgbImage::new(SIDE, SIDE).save(workshop.path("i.png")).unwrap();
    let commands: [&[&str]; 10] = [
        &["check", "c.toml"],
        &["config", "--default"],
        &["--model", "m.tar", "--image", "i.png"],
        &["self-test", "--model", "m.tar"],
        &["bench", "--model", "m.tar", "--runs", "1"],
        &["cameras"],
        &["lines"],
        &["capture", "c.toml", "-o", "out"],
        &["safe", "c.toml"],
        &["doctor"],
    ];
    for arguments in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = workshop.command(arguments).stdout(writer).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        assert!(!error.contains("standard output") && !error.contains("panicked"), "{arguments:?}: {error}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = workshop.command(&["config", "--default"]).stdout(full).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("standard output: cannot write: No space"), "{error}");
}

/// The safe levels do not wait for somebody who reads what is said of them.
#[test]
fn safe_drives_every_line_of_every_configuration_before_it_prints() {
    let workshop = Workshop::new("kind = \"mjpeg\"\npath = \"-\"", "");
    fs::create_dir(workshop.path("run")).unwrap();
    let line = |name: &str| format!("[[line]]\nname = \"{name}\"\nbackend = \"virtual\"\n");
    fs::write(workshop.path("c.toml"), line("lamp") + &line("pump")).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = workshop.command(&["safe", "c.toml"]).stdout(writer).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("lamp") && log.contains("pump"), "{log}");
}

#[test]
fn captured_frames_are_the_bytes_of_the_source() {
    let source = "kind = \"raw\"\npath = \"a.raw\"\nformat = \"rgb24\"\nwidth = 4\nheight = 3";
    let workshop = Workshop::new(source, ALWAYS);
    let bytes: Vec<u8> = (0..3 * 36).collect();
    fs::write(workshop.path("a.raw"), &bytes).unwrap();
    let told = workshop.ok(&["capture", "c.toml", "--frames", "2", "-o", "found"]);
    assert!(told.contains("2 frames, the last of 36 bytes: Rgb24 4x3, rows of 12 bytes"), "{told}");
    assert_eq!(fs::read(workshop.path("found")).unwrap(), bytes[..72]);
    // What there is, if there is less.
    workshop.ok(&["capture", "c.toml", "--frames", "9", "-o", "found"]);
    assert_eq!(fs::read(workshop.path("found")).unwrap(), bytes);
    fs::write(workshop.path("a.raw"), "").unwrap();
    let output = workshop.output(&["capture", "c.toml", "-o", "found"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("a.raw: there are no frames"));
}

#[test]
fn only_models_of_the_configured_key_are_run() {
    let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let workshop = Workshop::new(&source, ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    let configuration = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let signing = configuration.replace("threads = 1", "threads = 1\npublic_key = \"k.pub\"");
    fs::write(workshop.path("c.toml"), signing).unwrap();
    let key = |seed: u8| PrivateKey::from_seed([seed; 32]);
    let sign = |seed: u8| {
        let archive = Archive::from_bytes("m.tar", TINY_MODEL).unwrap();
        key(seed).sign_model(&archive).write(&workshop.path("m.tar")).unwrap();
    };
    let refused = |words: &str| {
        for command in ["check", "run"] {
            let output = workshop.output(&[command, "c.toml"]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && error.contains(words), "{command}: {error}");
        }
    };
    refused("k.pub: cannot read");
    fs::write(workshop.path("k.pub"), key(1).to_text()).unwrap();
    refused("k.pub: key: it is a private key");
    fs::write(workshop.path("k.pub"), key(1).public().to_text()).unwrap();
    refused("it is not signed");
    sign(2);
    refused("signed it, not key");
    sign(1);
    assert_eq!(workshop.ok(&["check", "c.toml"]), "c.toml: valid\n");

    let service = workshop.start();
    service.expect_log("ready", 0);
    fs::write(workshop.path("m.tar"), TINY_MODEL).unwrap();
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 0).contains("it is not signed"));
    sign(2);
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 1).contains("signed it, not key"));
    sign(1);
    service.signal("HUP");
    service.expect_log("reloaded", 0);
}

#[test]
fn safe_drives_what_it_can_read_and_tells_the_rest() {
    let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
    fs::remove_file(workshop.path("m.tar")).unwrap();
    assert_eq!(workshop.ok(&["safe", "c.toml"]), "line lamp: inactive (low)\n");
    let good = "[[line]]\nname = \"horn\"\nbackend = \"virtual\"\nactive_low = true\nsafe = \"active\"\n";
    let table = [
        ("backend = \"gpio\"\nline = \"no such line\"", "line `relay`: no GPIO line is named `no such line`"),
        ("backend = \"gpio\"\nchip = \"none\"\nline = 1", "no GPIO chip is labelled `none`"),
        ("backend = \"smoke\"", "bad.toml:4: line.backend: expected"),
    ];
    for (line, cause) in table {
        let text = format!("[model]\n[[line]]\nname = \"relay\"\n{line}\n{good}");
        fs::write(workshop.path("bad.toml"), text).unwrap();
        let output = workshop.output(&["safe", "bad.toml"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "line horn: active (low)\n");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(cause) && error.contains("not every line is known"), "{error}");
    }
    assert_eq!(workshop.output(&["safe", "none.toml"]).status.code(), Some(1));
}

/// Killed after its file was changed, by an update for example: the lines that it drove count.
#[test]
fn the_lines_of_a_killed_process_are_made_safe_whatever_its_file_says_now() {
    let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let workshop = Workshop::new(&source, ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    fs::create_dir(workshop.path("run")).unwrap();
    let with_directory = |arguments: &[&str]| {
        let mut command = workshop.command(arguments);
        command.env("RUNTIME_DIRECTORY", workshop.path("run"));
        command
    };
    let safe = || String::from_utf8(with_directory(&["safe", "c.toml"]).output().unwrap().stdout).unwrap();
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let configure = |name: &str| {
        fs::write(workshop.path("c.toml"), text.replace("\"lamp\"", &format!("\"{name}\""))).unwrap();
    };
    let mut service = Service::start(with_directory(&["run", "c.toml"]).stdin(Stdio::piped()));
    service.expect_log("ready", 0);
    configure("horn");
    assert_eq!(safe(), "line lamp: inactive (low)\n");
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    configure("bell");
    wait_for("the end of the reload", || match safe().as_str() {
        "line horn: inactive (low)\n" => Ok(()),
        other => Err(other.to_owned()),
    });
    service.child.kill().unwrap();
    fs::remove_file(workshop.path("c.toml")).unwrap();
    assert_eq!(safe(), "line horn: inactive (low)\n");
    // What cannot be read any more is told.
    fs::write(workshop.path("run/running.toml"), "[[line]]\nname = 3\n").unwrap();
    let output = with_directory(&["safe", "c.toml"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("running.toml:2: line.name"), "{error}");
    fs::write(workshop.path("run/running.toml"), [0xff]).unwrap();
    configure("bell");
    let output = with_directory(&["safe", "c.toml"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && error.contains("running.toml"), "{error}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "line bell: inactive (low)\n");
}

#[test]
fn lines_change_while_running_and_a_bad_change_is_refused() {
    let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let workshop = Workshop::new(&source, ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    let service = workshop.start();
    service.expect_log("virtual line lamp: active", 0);
    let line = |name: &str, rest: &str| format!("[[line]]\nname = \"{name}\"\n{rest}\n");
    let bad = line("siren", "backend = \"gpio\"\nline = \"no such line\"");
    workshop.configure(&source, &format!("{bad}{ALWAYS}"));
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 0).contains("no GPIO line is named"));
    assert_eq!(service.status()["lines"], serde_json::json!({ "lamp": true }));

    let siren = line("siren", "backend = \"virtual\"");
    let rule = ALWAYS.replace("\"lamp\"", "\"siren\"");
    workshop.configure(&source, &format!("{siren}{rule}"));
    service.signal("HUP");
    service.expect_log("virtual line siren: active", 0);
    service.expect_log("virtual line lamp: inactive", 1);
    assert_eq!(service.status()["lines"], serde_json::json!({ "lamp": false, "siren": true }));
    let writes = service.status()["line_write"]["count"].as_u64();
    assert!(writes >= Some(2), "{writes:?}");
}

#[test]
fn an_input_arms_a_rule_and_its_loss_disarms_it() {
    let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let input = "[[input]]\nname = \"key\"\nbackend = \"file\"\npath = \"key\"\n";
    let rule = format!("{input}{ALWAYS}armed_by = \"key\"\nhold_ms = 60000\n");
    let workshop = Workshop::new(&source, &rule);
    write_raw(&workshop.path("a.rgb"), 3);
    assert!(String::from_utf8(workshop.output(&["run", "c.toml"]).stderr).unwrap().contains("input `key`"));
    set_input(&workshop, "0");
    let service = workshop.start();
    let wait_for_state = |lamp: bool, key: Value| {
        wait_for("the lamp", || {
            let status = service.status();
            let is_so = status["lines"]["lamp"] == lamp && status["inputs"]["key"] == key;
            is_so.then_some(()).ok_or(status.to_string())
        });
    };
    service.expect_log("ready", 0);
    assert_eq!(service.status()["lines"]["lamp"], false);
    for _ in 0..2 {
        set_input(&workshop, "1");
        wait_for_state(true, true.into());
        set_input(&workshop, "0");
        wait_for_state(false, false.into());
    }
    service.expect_event("inactive");
    set_input(&workshop, "1");
    wait_for_state(true, true.into());
    fs::remove_file(workshop.path("key")).unwrap();
    wait_for_state(false, Value::Null);
    let metrics = service.get("/metrics").1;
    assert!(metrics.contains("resight_input_active{input=\"key\"} NaN"), "{metrics}");
    set_input(&workshop, "1");
    wait_for_state(true, true.into());
}

#[test]
fn a_trigger_asks_for_single_frames() {
    let source = format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"));
    let input = "[[input]]\nname = \"key\"\nbackend = \"file\"\npath = \"key\"\ntrigger = true\n";
    let workshop = Workshop::new(&source, &format!("{input}{ALWAYS}"));
    write_raw(&workshop.path("a.rgb"), 3);
    set_input(&workshop, "0");
    let service = workshop.start();
    service.expect_log("ready", 0);
    // Longer than frames may stay away: they come, but nobody wants them.
    thread::sleep(Duration::from_millis(700));
    let status = service.status();
    assert_eq!((&status["inferences"], &status["stale"]), (&1.into(), &false.into()), "{status}");
    assert!(status["frames"].as_u64() > Some(5) && service.events().is_empty(), "{status}");
    for edge in 1..=3u64 {
        set_input(&workshop, "1");
        wait_for("the inference", || {
            let status = service.status();
            (status["inferences"] == 1 + edge).then_some(()).ok_or(status.to_string())
        });
        set_input(&workshop, "0");
        thread::sleep(Duration::from_millis(100));
        assert_eq!(service.status()["inferences"], 1 + edge);
    }
    service.expect_event("active");
}

/// A release as `resight deploy` brings it, judged by the one that runs.
#[test]
fn a_release_is_judged_by_the_key_of_the_running_one() {
    let workshop =
        Workshop::new("kind = \"raw\"\npath = \"x\"\nformat = \"grey\"\nwidth = 32\nheight = 32", "");
    let release = workshop.path("next");
    fs::create_dir(&release).unwrap();
    let at = |name: &str| release.join(name);
    let team = PrivateKey::from_seed([5; 32]);
    let other = PrivateKey::from_seed([6; 32]);
    let refused = |words: &str| {
        let output = workshop.output(&["verify", "c.toml", "next"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(words), "`{words}`: {text}");
    };
    let program = |content: &[u8]| fs::write(at("resightd"), content).unwrap();
    let model = |key: &PrivateKey| {
        let archive = Archive::read(&workshop.path("m.tar")).unwrap();
        key.sign_model(&archive).write(&at("n.tar")).unwrap();
    };
    // Nothing else of the new file matters to a program that may be older than it.
    let configuration = |key: &str| {
        let text = format!("new_table = 3\n[model]\nfile = \"n.tar\"\n{key}\nnew_key = 1\n");
        fs::write(at("resightd.toml"), text).unwrap();
    };
    configuration("public_key = \"k.pub\"");
    program(b"\x7fELF another");
    assert!(workshop.ok(&["verify", "c.toml", "next"]).contains("no key is demanded"));

    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let signing = text.replace("threads = 1", "threads = 1\npublic_key = \"k.pub\"");
    fs::write(workshop.path("c.toml"), signing).unwrap();
    refused("k.pub");
    fs::write(workshop.path("k.pub"), team.public().to_text()).unwrap();
    fs::write(at("k.pub"), team.public().to_text()).unwrap();
    refused("n.tar");
    model(&other);
    refused("signed it, not key");
    model(&team);
    refused("resightd.sig");
    other.sign_program(&at("resightd")).unwrap();
    refused("signed it, not key");
    team.sign_program(&at("resightd")).unwrap();
    let told = workshop.ok(&["verify", "c.toml", "next"]);
    assert!(told.contains(&team.public().fingerprint()), "{told}");
    program(b"\x7fELF altered");
    refused("did not sign this content");

    // This very program needs no signature: whoever runs it has accepted it.
    fs::copy(env!("CARGO_BIN_EXE_resightd"), at("resightd")).unwrap();
    fs::remove_file(at("resightd.sig")).unwrap();
    workshop.ok(&["verify", "c.toml", "next"]);

    // Signed as it should be, but from then on anybody's model would do.
    configuration("");
    refused("--replace-key");
    configuration("public_key = \"k.pub\"");
    fs::write(at("k.pub"), other.public().to_text()).unwrap();
    refused("--replace-key");
    fs::write(at("resightd.toml"), "[model]\n").unwrap();
    refused("resightd.toml:1: model.file: missing");
    fs::write(at("resightd.toml"), "[model").unwrap();
    refused("resightd.toml:1");
    fs::remove_file(at("resightd.toml")).unwrap();
    refused("resightd.toml");
}
