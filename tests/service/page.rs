//! The live page over HTTP: files, the stream of events, switches, and who may use them.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use resight_fixtures::http;
use serde_json::{Value, json};

use crate::harness::*;

const JSON: &str = "Content-Type: application/json\r\n";

/// Code and body of the answer to a POST.
fn post(service: &Service, fields: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = http::request("POST", "/switches", &format!("{fields}Content-Length: {length}\r\n"));
    let (code, _, body) = service.ask(0, &format!("{head}{body}"));
    (code, String::from_utf8(body).unwrap())
}

fn switch(service: &Service, body: &str) -> Value {
    let (code, body) = post(service, JSON, body);
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Server-sent events, as they come.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(service: &Service, fields: &str) -> Self {
        let mut stream = service.connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(http::request("GET", "/events", fields).as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// Status line and header.
    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        head
    }

    /// The next message; `None` at the end.
    fn next(&mut self) -> Option<(String, Value)> {
        let mut event = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                name.trim().clone_into(&mut event);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((event, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// The next message of this kind for which `wanted` holds.
    fn expect(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (kind, value) = self.next().unwrap_or_else(|| panic!("no {event}"));
            if kind == event && wanted(&value) {
                return value;
            }
        }
    }
}

fn viewers(service: &Service, count: u64) {
    wait_for("viewers", || {
        let viewers = service.status()["viewers"].as_u64();
        (viewers == Some(count)).then_some(()).ok_or(format!("{viewers:?}"))
    });
}

#[test]
fn the_page_comes_without_a_token_and_nothing_else_does() {
    let workshop = workshop("http = \"127.0.0.1:0\"\ntoken_file = \"token\"");
    let token = "0123456789abcdef0123";
    fs::write(workshop.path("token"), token).unwrap();
    let service = workshop.start();
    service.expect_log("ready", 0);
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/icon.svg", "image/svg"),
    ] {
        let (code, head, body) = service.ask(0, &http::request("GET", path, ""));
        assert_eq!(code, 200, "{path}");
        assert!(head.contains(&format!("Content-Type: {kind}")) && !body.is_empty(), "{path}: {head}");
        for field in [
            "X-Content-Type-Options: nosniff",
            "default-src 'none'",
            "frame-ancestors 'none'",
            "script-src 'self'",
        ] {
            assert!(head.contains(field), "{path}: {head}");
        }
    }
    assert_eq!(service.ask(0, "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").0, 421);
    assert_eq!(service.ask(0, &http::request("POST", "/", "Content-Length: 0\r\n")).0, 405);
    assert_eq!(service.code("/events", ""), 401);
    assert_eq!(post(&service, JSON, "{\"dry_run\": true}").0, 401);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut stream = Stream::open(&service, &bearer);
    stream.expect("figures", |_| true);
    assert_eq!(post(&service, &format!("{bearer}{JSON}"), "{\"dry_run\": true}").0, 200);

    // With another token, those who watch must show it.
    fs::write(workshop.path("token"), "another-token-of-many-letters").unwrap();
    service.signal("HUP");
    while stream.next().is_some() {}
}

#[test]
fn a_viewer_is_told_states_scores_figures_and_events() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_event("active");
    let mut stream = Stream::open(&service, "");
    let head = stream.head();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
    assert!(!head.contains("Content-Length"), "{head}");
    let state = stream.expect("state", |_| true);
    assert_eq!(json!([state["switches"], state["dry_run"]]), json!([true, false]));
    assert_eq!(state["source"]["state"], "streaming");
    assert_eq!(state["view"]["region"], json!([0.0, 0.0, 1.0, 1.0]));
    let rule = &state["rules"][0];
    assert_eq!(json!([rule["name"], rule["armed"], rule["lines"][0]]), json!(["any", true, "lamp"]));
    // The event that was before is shown too.
    let event = stream.expect("event", |_| true);
    assert_eq!(json!([event["event"], event["rule"]]), json!(["active", "any"]));
    let scores = stream.expect("scores", |_| true);
    let more = stream.expect("scores", |_| true);
    let frames = scores.as_array().into_iter().chain(more.as_array()).flatten();
    let frames: Vec<u64> = frames.map(|sample| sample["frame"].as_u64().unwrap()).collect();
    assert!(frames.len() >= 2 && frames.is_sorted_by(|a, b| a < b), "{frames:?}");
    let top = more[0]["top"].as_array().unwrap();
    let probabilities: Vec<f64> = top.iter().map(|class| class[1].as_f64().unwrap()).collect();
    assert!(probabilities.len() == 5 && probabilities.is_sorted_by(|a, b| a >= b), "{top:?}");
    assert!(probabilities[0] > 0.0, "{top:?}");
    let [score, hits, active] = [0_usize, 1, 2].map(|index| &more[0]["rules"][0][index]);
    assert!(score.as_f64() > Some(0.99) && hits == 1 && active == true, "{more}");
    let figures = stream.expect("figures", |_| true);
    assert!(figures["inferences"].as_u64() > Some(0) && figures["viewers"] == 1, "{figures}");
    let switched = switch(&service, "{\"dry_run\": true}");
    assert_eq!(switched["dry_run"], true);
    stream.expect("state", |state| state["dry_run"] == true && state["lines"]["lamp"] == false);
    stream.expect("event", |event| event["event"] == "dry_run");
    drop(stream);
    viewers(&service, 0);

    // The frame and what was seen in it.
    let (code, head, _) = service.ask(0, &http::request("GET", "/frame.jpg", ""));
    let field = head.lines().find_map(|line| line.strip_prefix("Resight-Frame: ")).unwrap();
    let seen: Value = serde_json::from_str(field).unwrap();
    assert!(code == 200 && seen["frame"].as_u64() > Some(0), "{head}");
    assert_eq!(seen["top"].as_array().map(Vec::len), Some(5));
}

#[test]
fn viewers_are_limited_and_a_slow_one_holds_up_nothing() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    // They read nothing at all.
    let mut streams: Vec<Stream> = (0..8).map(|_| Stream::open(&service, "")).collect();
    viewers(&service, 8);
    assert_eq!(service.code("/events", ""), 503);
    let inferences = || service.status()["inferences"].as_u64().unwrap();
    let before = inferences();
    wait_for("more frames", || (inferences() > before + 50).then_some(()).ok_or(String::new()));
    streams.pop();
    viewers(&service, 7);
    let mut stream = Stream::open(&service, "");
    stream.expect("figures", |figures| figures["viewers"] == 8);
    drop(streams);
    viewers(&service, 1);
}

#[test]
fn a_disarmed_rule_lets_go_and_stays_so_over_a_reload() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    let lamp = |level: bool| {
        wait_for("the lamp", || {
            let status = service.status();
            (status["lines"]["lamp"] == level).then_some(()).ok_or(status.to_string())
        });
    };
    lamp(true);
    let state = switch(&service, "{\"rule\": \"any\", \"armed\": false}");
    assert_eq!(state["lines"]["lamp"], false, "at once");
    let rule = &state["rules"][0];
    assert_eq!(json!([rule["armed"], rule["switched_off"], rule["active"]]), json!([false, true, false]));
    assert_eq!(rule["waits_for"], json!(["switch"]));
    assert_eq!(service.expect_event("disarmed")["rule"], "any");
    service.expect_event("inactive");
    service.expect_log("rule `any` is disarmed now", 0);
    assert!(service.get("/metrics").1.contains("resight_rule_armed{rule=\"any\"} 0"));

    // The same rule by name, though it is another.
    workshop.configure(&endless(), &ALWAYS.replace("0.9", "0.25"));
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    let inferences = service.status()["inferences"].as_u64();
    wait_for("frames with the new rules", || {
        let status = service.status();
        let changed = status["rules"][0]["threshold"] == 0.25 && status["inferences"].as_u64() > inferences;
        changed.then_some(()).ok_or(status.to_string())
    });
    assert_eq!(service.status()["rules"][0]["armed"], false);
    lamp(false);
    switch(&service, "{\"rule\": \"any\", \"armed\": true}");
    lamp(true);
    service.expect_event("armed");
    assert_eq!(service.status()["http_switched"], 2);
}

#[test]
fn in_dry_run_rules_report_and_lines_stay_safe() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    let wait = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        wait_for(what, || {
            let status = service.status();
            wanted(&status).then_some(()).ok_or(status.to_string())
        });
    };
    wait("the lamp", &|status| status["lines"]["lamp"] == true);
    let state = switch(&service, "{\"dry_run\": true}");
    assert_eq!(json!([state["dry_run"], state["lines"]["lamp"]]), json!([true, false]), "at once");
    // The rule starts afresh and is active again.
    wait("the rule", &|status| status["rules"][0]["active"] == true);
    assert_eq!(service.status()["lines"]["lamp"], false);
    service.expect_event("dry_run");
    wait_for("an event of the dry run", || {
        let events = service.events();
        let dry = |event: &Value| event["event"] == "active" && event["dry_run"] == true;
        events.iter().any(dry).then_some(()).ok_or(format!("{events:?}"))
    });
    service.expect_log("dry run: rules are evaluated", 0);
    assert!(service.get("/metrics").1.contains("resight_dry_run 1"));
    // A second time changes nothing.
    switch(&service, "{\"dry_run\": true}");
    switch(&service, "{\"dry_run\": false}");
    wait("the lamp", &|status| status["lines"]["lamp"] == true && status["dry_run"] == false);
    service.expect_event("dry_run_over");

    // What the configuration asks for, nobody can end.
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    fs::write(workshop.path("c.toml"), text.replace("stale_ms = 400", "stale_ms = 400\ndry_run = true"))
        .unwrap();
    service.signal("HUP");
    wait("dry run by configuration", &|status| status["dry_run_configured"] == true);
    wait("the lamp to go out", &|status| status["lines"]["lamp"] == false);
    let (code, body) = post(&service, JSON, "{\"dry_run\": false}");
    assert!(code == 409 && body.contains("[safety]"), "{body}");
    assert_eq!(service.status()["dry_run"], true);
}

#[test]
fn a_line_whose_safe_level_is_active_is_active_in_dry_run() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let text = text.replace("backend = \"virtual\"\n", "backend = \"virtual\"\nsafe = \"active\"\n");
    fs::write(workshop.path("c.toml"), text.replace("\"thing*\"", "\"thing_0\"").replace("0.9", "1.0"))
        .unwrap();
    let service = workshop.start();
    let lamp = |level: bool| {
        wait_for("the lamp", || {
            let status = service.status();
            (status["lines"]["lamp"] == level).then_some(()).ok_or(status.to_string())
        });
    };
    lamp(false);
    assert_eq!(switch(&service, "{\"dry_run\": true}")["lines"]["lamp"], true);
    lamp(true);
    switch(&service, "{\"dry_run\": false}");
    lamp(false);
}

#[test]
fn pages_from_elsewhere_and_bad_requests_switch_nothing() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let on = "{\"dry_run\": true}";
    let table = [
        ("Origin: http://evil.example\r\nContent-Type: application/json\r\n", on, 403),
        ("Sec-Fetch-Site: cross-site\r\nContent-Type: application/json\r\n", on, 403),
        (
            "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:1\r\nContent-Type: application/json\r\n",
            on,
            403,
        ),
        ("Content-Type: text/plain\r\n", on, 415),
        ("", on, 415),
        (JSON, "{\"dry_run\": 1}", 400),
        (JSON, "", 400),
        (JSON, "{\"rule\": \"nobody\", \"armed\": false}", 404),
    ];
    for (fields, body, expected) in table {
        assert_eq!(post(&service, fields, body).0, expected, "{fields}{body}");
    }
    let request = |method: &str, fields: &str| {
        service.ask(0, &http::request(method, "/switches", &format!("{JSON}{fields}")))
    };
    assert_eq!(request("POST", "").0, 411);
    assert_eq!(request("POST", "Content-Length: 5000\r\n").0, 413);
    assert_eq!(request("POST", "Content-Length: x\r\n").0, 400);
    let (code, head, _) = request("GET", "");
    assert!(code == 405 && head.contains("Allow: POST"), "{head}");
    assert_eq!(request("OPTIONS", "").0, 405);
    let status = service.status();
    assert_eq!(json!([status["dry_run"], status["http_switched"]]), json!([false, 0]));

    set_output(&workshop, "http = \"127.0.0.1:0\"\nswitches = false");
    service.signal("HUP");
    wait_for("the page to be read only", || {
        let answer = post(&service, JSON, "{\"dry_run\": false}");
        (answer.0 == 403).then_some(()).ok_or(answer.1)
    });
    let mut stream = Stream::open(&service, "");
    assert_eq!(stream.expect("state", |_| true)["switches"], false);
}

#[test]
fn what_was_switched_outlives_a_crash_under_systemd_and_a_damaged_file_means_dry_run() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    fs::create_dir(workshop.path("run")).unwrap();
    let start = |workshop: &Workshop| {
        let mut command = workshop.command(&["run", "c.toml"]);
        Service::start(command.env("RUNTIME_DIRECTORY", workshop.path("run")).stdin(Stdio::piped()))
    };
    let service = start(&workshop);
    service.expect_event("active");
    switch(&service, "{\"dry_run\": true}");
    switch(&service, "{\"rule\": \"any\", \"armed\": false}");
    service.signal("KILL");
    drop(service);
    let service = start(&workshop);
    service.expect_log("dry run: rules are evaluated", 0);
    service.expect_log("rule `any` is disarmed since before the restart", 0);
    service.expect_log("ready", 0);
    let status = service.status();
    assert_eq!(json!([status["dry_run"], status["rules"][0]["switched_off"]]), json!([true, true]));
    switch(&service, "{\"dry_run\": false}");
    service.signal("KILL");
    drop(service);
    fs::write(workshop.path("run/switches.json"), "{").unwrap();
    let service = start(&workshop);
    service.expect_log("beginning with dry run", 0);
    service.expect_log("ready", 0);
    assert_eq!(service.status()["dry_run"], true);
}

#[test]
fn the_source_is_opening_streaming_silent_lost_and_streaming_again() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let pipe = workshop.path("pipe");
    let make = || {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    make();
    workshop.configure(&STANDARD_INPUT.replace('-', "pipe"), ALWAYS);
    let service = workshop.start();
    let expect = |wanted: &str| {
        wait_for(wanted, || {
            let source = service.status()["source"].clone();
            (source["state"] == wanted).then(|| source.clone()).ok_or(source.to_string())
        })
    };
    expect("opening");
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(&raw_frame()).unwrap();
    expect("streaming");
    expect("silent");
    fs::remove_file(&pipe).unwrap();
    drop(writer);
    let lost = expect("lost");
    assert!(lost["error"].as_str().is_some_and(|error| error.contains("No such file")), "{lost}");
    make();
    expect("opening");
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    let writing = thread::spawn(move || {
        for _ in 0..20 {
            writer.write_all(&raw_frame()).unwrap();
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(expect("streaming")["error"], Value::Null);
    writing.join().unwrap();
}
