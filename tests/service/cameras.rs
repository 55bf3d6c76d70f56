//! Several cameras in one process.

use std::fs;
use std::process::Command;

use resight_fixtures::http;
use serde_json::Value;

use super::harness::{ALWAYS, SIDE, Service, Workshop, raw_frame, set_input, wait_for, write_raw};

/// A camera whose frames lie in a file.
fn camera(name: &str, file: &str, rest: &str) -> String {
    format!(
        "[[camera]]\nname = \"{name}\"\n{rest}[camera.source]\nkind = \"raw\"\npath = \"{file}\"\n\
         format = \"rgb24\"\nwidth = 32\nheight = 32\n"
    )
}

/// One that gives frames as fast as they are taken, for ever.
fn endless(name: &str, rest: &str) -> String {
    camera(name, "a.rgb", rest) + "repeat = true\n"
}

fn configure(workshop: &Workshop, cameras: &str, rules: &str) {
    let text = format!(
        "[model]\nfile = \"m.tar\"\nthreads = 1\n{cameras}[safety]\nstale_ms = 1500\n\
         [output]\nhttp = \"127.0.0.1:0\"\n[[line]]\nname = \"lamp\"\nbackend = \"virtual\"\n\
         [[line]]\nname = \"horn\"\nbackend = \"virtual\"\n{rules}"
    );
    fs::write(workshop.path("c.toml"), text).unwrap();
}

fn workshop(cameras: &str, rules: &str) -> Workshop {
    let workshop = Workshop::new("", "");
    write_raw(&workshop.path("a.rgb"), 3);
    configure(&workshop, cameras, rules);
    workshop
}

/// The figures of a camera.
fn figures(status: &Value, name: &str) -> Value {
    let cameras = status["camera_figures"].as_array().unwrap();
    cameras
        .iter()
        .find(|camera| camera["name"] == name)
        .cloned()
        .unwrap_or_else(|| panic!("{name}: {status}"))
}

fn inferences(status: &Value, name: &str) -> u64 {
    figures(status, name)["inferences"].as_u64().unwrap()
}

/// Waits until a camera has had so many inferences, and gives the status then.
fn after(service: &Service, name: &str, count: u64) -> Value {
    wait_for(name, || {
        let status = service.status();
        if inferences(&status, name) >= count { Ok(status) } else { Err(status.to_string()) }
    })
}

#[test]
fn three_cameras_get_the_same_share_whatever_their_regions_and_each_is_shown() {
    // One looks at four times as many parts of each frame as the others: each is an inference.
    let regions = |count: usize| -> String {
        let region = |part: usize| {
            let left = part as f64 / (2 * count) as f64;
            format!("[[camera.region]]\nname = \"{part}\"\narea = [{left:.4}, 0, 0.5, 1]\n")
        };
        (0..count).map(region).collect()
    };
    let cameras = [("porch", 8), ("yard", 8), ("gate", 32)];
    let cameras = cameras.map(|(name, count)| endless(name, "") + &regions(count)).concat();
    let workshop = workshop(&cameras, ALWAYS);
    let service = workshop.start();
    let status = after(&service, "porch", 200);
    let [porch, yard] = ["porch", "yard"].map(|name| inferences(&status, name));
    let gate = inferences(&status, "gate");
    for (one, other) in [(porch, yard), (porch, 4 * gate), (yard, 4 * gate)] {
        assert!(one.abs_diff(other) * 10 <= one.max(other), "{porch}, {yard}, 4 x {gate}");
    }
    assert!(status["inferences"].as_u64() >= Some(porch + yard + gate), "{status}");
    // What older readers know is of all together.
    assert_eq!((&status["stale"], &status["source"]["state"]), (&false.into(), &"streaming".into()));
    let names: Vec<&str> =
        status["cameras"].as_array().unwrap().iter().map(|camera| camera["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["porch", "yard", "gate"]);
    let rules: Vec<(&str, &str)> = status["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| (rule["camera"].as_str().unwrap(), rule["name"].as_str().unwrap()))
        .collect();
    assert_eq!((rules[0], rules[8], rules.len()), (("porch", "any/porch/0"), ("yard", "any/yard/0"), 48));
    assert_eq!(figures(&status, "gate")["regions"].as_array().unwrap().len(), 32);
    // Each tells of itself, by its name.
    let event = service.expect_event("active");
    assert_eq!(event["rule"].as_str().unwrap().split('/').nth(1), event["camera"].as_str());
    let metrics = service.get("/metrics").1;
    for line in [
        "resight_inferences_total{camera=\"yard\"} ",
        "resight_rule_active{camera=\"porch\",rule=\"any/porch/7\"} 1",
        "resight_latency_seconds_count{camera=\"gate\"} ",
        "resight_stale{camera=\"porch\"} 0",
        "resight_line_active{line=\"lamp\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(metrics.matches("# TYPE resight_inferences_total counter").count(), 1);
    assert!(metrics.lines().any(|line| line.starts_with("resight_events_total ")), "{metrics}");
    for (path, code) in [
        ("/frame.jpg", 200),
        ("/frame.jpg?camera=gate", 200),
        ("/frame.jpg?camera=cellar", 404),
        ("/stream.mjpg?camera=cellar", 404),
        ("/healthz", 200),
    ] {
        assert_eq!(service.code(path, ""), code, "{path}");
    }
    assert_eq!(service.get("/frame.jpg?camera=cellar").1, "no such camera; there are porch, yard, gate\n");
}

#[test]
fn a_camera_that_is_lost_costs_the_others_nothing() {
    let rules = "[[rule]]\nname = \"mine\"\ncamera = \"porch\"\nclasses = [\"thing*\"]\nthreshold = 0.9\n\
        lines = [\"lamp\"]\n[[rule]]\nname = \"both\"\nclasses = [\"thing*\"]\nthreshold = 0.9\nlines = [\"horn\"]\n";
    let workshop = workshop(&[endless("porch", ""), camera("yard", "frames", "")].concat(), rules);
    assert!(Command::new("mkfifo").arg(workshop.path("frames")).status().unwrap().success());
    let service = workshop.start();
    let status = after(&service, "porch", 200);
    let lines = |status: &Value| {
        (status["lines"]["lamp"].as_bool().unwrap(), status["lines"]["horn"].as_bool().unwrap())
    };
    // The line that it shares with the camera that is not there stays safe, and only that one.
    assert_eq!((lines(&status), inferences(&status, "yard")), ((true, false), 0));
    assert_eq!((service.get("/healthz"), &status["stale"]), ((503, "stale: yard\n".into()), &true.into()));
    let mut writer = fs::File::options().write(true).open(workshop.path("frames")).unwrap();
    let write = |writer: &mut fs::File| std::io::Write::write_all(writer, &raw_frame()).unwrap();
    wait_for("the yard", || {
        write(&mut writer);
        let status = service.status();
        if lines(&status) == (true, true) { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(service.get("/healthz"), (200, "ok\n".into()));
    // It is lost again: its own lines are safe, and the other camera goes on as before.
    drop(writer);
    let stale = wait_for("the loss", || {
        let events = service.events();
        let stale = events.iter().find(|event| event["event"] == "stale").cloned();
        stale.ok_or(format!("{events:?}"))
    });
    assert_eq!(stale["camera"], "yard");
    let before = inferences(&service.status(), "porch");
    let status = after(&service, "porch", before + 200);
    assert_eq!(lines(&status), (true, false));
    assert_eq!(figures(&status, "porch")["stale_periods"], 0, "{status}");
    service.expect_log("yard: no frame for 1500 ms", 0);
}

#[test]
fn cameras_come_change_and_go_while_the_others_go_on() {
    let rules = "[[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nthreshold = 0.9\n";
    let workshop = workshop(&[endless("porch", ""), endless("yard", "")].concat(), rules);
    let service = workshop.start();
    after(&service, "yard", 20);
    let disarm = "{\"rule\": \"any/yard\", \"armed\": false}";
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", disarm.len());
    assert_eq!(service.ask(0, &(http::request("POST", "/switches", &fields) + disarm)).0, 200);
    let reload = |cameras: &str, number: usize| {
        configure(&workshop, cameras, rules);
        service.signal("HUP");
        service.expect_log("reloaded", number);
    };
    let names = || -> Vec<String> {
        let status = service.status();
        let cameras = status["cameras"].as_array().cloned().unwrap_or_default();
        cameras.iter().map(|camera| camera["name"].as_str().unwrap().to_owned()).collect()
    };
    let expect = |expected: &[&str]| {
        wait_for("the cameras", || {
            let names = names();
            if names == expected { Ok(()) } else { Err(format!("{names:?}")) }
        });
    };
    let before = inferences(&service.status(), "yard");
    // One comes, the order is another one, one shows another part.
    let turned = endless("yard", "") + "[camera.image]\nrotate = 90\n";
    reload(&[endless("gate", ""), turned, endless("porch", "")].concat(), 0);
    expect(&["gate", "yard", "porch"]);
    let status = after(&service, "gate", 20);
    assert!(inferences(&status, "yard") >= before, "{status}");
    assert_eq!(status["cameras"][1]["view"]["rotate"], 90);
    let armed: Vec<bool> =
        status["rules"].as_array().unwrap().iter().map(|rule| rule["armed"].as_bool().unwrap()).collect();
    assert_eq!(armed, [true, false, true]);
    // Another source for one; one goes.
    write_raw(&workshop.path("b.rgb"), 5);
    reload(&[camera("gate", "b.rgb", "") + "repeat = true\n", endless("porch", "")].concat(), 1);
    expect(&["gate", "porch"]);
    let status = service.status();
    assert!(status["cameras"][0]["source"]["name"].as_str().unwrap().ends_with("b.rgb"), "{status}");
    let gate = inferences(&status, "gate");
    after(&service, "gate", gate + 20);
    // What cannot be opened changes nothing.
    configure(&workshop, &[endless("porch", ""), camera("cellar", "none.rgb", "")].concat(), rules);
    service.signal("HUP");
    service.expect_log("reload refused", 0);
    expect(&["gate", "porch"]);
    // Back to one without a name.
    workshop.configure(&super::harness::endless(), ALWAYS);
    service.signal("HUP");
    service.expect_log("reloaded", 2);
    expect(&[]);
    wait_for("frames", || {
        let status = service.status();
        if status["stale"] == false { Ok(()) } else { Err(status.to_string()) }
    });
    assert!(service.status().get("camera_figures").is_none());
}

#[test]
fn the_end_of_one_cameras_frames_is_not_the_end_of_the_service() {
    let workshop = workshop(&[camera("porch", "a.rgb", ""), camera("yard", "-", "")].concat(), "");
    let mut service = workshop.start();
    let mut input = service.child.stdin.take().unwrap();
    after(&service, "porch", 3);
    std::io::Write::write_all(&mut input, &raw_frame()).unwrap();
    let status = after(&service, "yard", 1);
    assert_eq!(status["cameras"][0]["source"]["state"], "ended");
    drop(input);
    assert!(service.finish());
    service.expect_log("4 frames, 4 classified", 0);
}

#[test]
fn a_trigger_asks_each_camera_for_a_frame() {
    let input = "[[input]]\nname = \"key\"\nbackend = \"file\"\npath = \"key\"\ntrigger = true\n";
    let rules = format!("{ALWAYS}{input}");
    let workshop = workshop(&[endless("porch", ""), endless("yard", "")].concat(), &rules);
    set_input(&workshop, "0");
    let service = workshop.start();
    after(&service, "porch", 1);
    after(&service, "yard", 1);
    assert!(service.events().iter().all(|event| event["event"] != "active"), "{:?}", service.events());
    set_input(&workshop, "1");
    let cameras = wait_for("an answer of each", || {
        let events = service.events();
        let active = events.iter().filter(|event| event["event"] == "active");
        let mut cameras: Vec<String> =
            active.map(|event| event["camera"].as_str().unwrap().to_owned()).collect();
        cameras.sort();
        if cameras.len() >= 2 { Ok(cameras) } else { Err(format!("{events:?}")) }
    });
    assert_eq!(cameras, ["porch", "yard"]);
    after(&service, "porch", 2);
    let status = after(&service, "yard", 2);
    assert_eq!((inferences(&status, "porch"), inferences(&status, "yard")), (2, 2));
}

/// Resident memory of a service once its cameras have had so many inferences, in kilobytes.
fn resident(workshop: &Workshop, cameras: &[&str]) -> u64 {
    let service = workshop.start();
    for name in cameras {
        after(&service, name, 200);
    }
    let status = fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_second_camera_of_the_same_model_takes_little_memory() {
    // Of the size that most cameras give.
    let large = |name: &str| {
        camera(name, "large.rgb", "").replace("width = 32\nheight = 32\n", "width = 640\nheight = 480\n")
            + "repeat = true\n"
    };
    let workshop = workshop(&large("porch"), ALWAYS);
    fs::write(workshop.path("large.rgb"), vec![99; 2 * 640 * 480 * 3]).unwrap();
    let one = resident(&workshop, &["porch"]);
    configure(&workshop, &[large("porch"), large("yard")].concat(), ALWAYS);
    let two = resident(&workshop, &["porch", "yard"]);
    let more = two.saturating_sub(one);
    println!("{one} kB with one camera of {SIDE} rows for the network, {more} kB more with a second");
    assert!(more <= 8192, "{one} kB, {two} kB");
}
