//! Outputs of the service: socket, HTTP, snapshots, MQTT, log; and what happens when they fail.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use resight_fixtures::{http, skipped};
use serde_json::Value;

use crate::broker::{Broker, retained};
use crate::harness::*;

#[test]
fn a_foreign_host_and_other_methods_are_refused() {
    let workshop = workshop("http = \"127.0.0.1:0\"\nhosts = [\"Board.local\"]");
    let service = workshop.start();
    service.expect_log("ready", 0);
    for (host, code) in
        [("evil.example", 421), ("board.local:80", 200), ("127.0.0.1:8600", 200), ("[::1]", 200)]
    {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(service.ask(0, &request).0, code, "{host}");
    }
    let (code, head, body) = service.ask(0, &http::request("HEAD", "/status", ""));
    assert_eq!((code, body.len()), (200, 0), "{head}");
    assert!(!head.contains("Content-Length: 0"), "{head}");
    let (code, head, _) = service.ask(0, &http::request("DELETE", "/status", ""));
    assert_eq!(code, 405);
    assert!(head.contains("Allow: GET, HEAD"), "{head}");
    assert_eq!(service.ask(0, "nonsense\r\n\r\n").0, 400);
    assert_eq!(service.status()["http_unauthorised"], 1);
}

#[test]
fn without_the_token_there_is_no_answer() {
    let token = "0123456789abcdef0123";
    let workshop = workshop("http = \"127.0.0.1:0\"\ntoken_file = \"token\"");
    fs::write(workshop.path("token"), "short\n").unwrap();
    let output = workshop.output(&["run", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("openssl rand"), "{error}");
    assert!(!error.contains("short"), "{error}");
    fs::write(workshop.path("token"), format!("{token}\n")).unwrap();
    let service = workshop.start();
    service.expect_log("ready", 0);
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for path in ["/status", "/metrics", "/healthz", "/frame.jpg", "/other"] {
        assert_eq!(service.code(path, ""), 401, "{path}");
        assert_eq!(service.code(path, &bearer("0123456789abcdef0124")), 401, "{path}");
    }
    assert_eq!(service.code("/status", &bearer(token)), 200);
    assert_eq!(service.code("/other", &bearer(token)), 404);

    // A new token, at the same address, while running.
    let other = "another token, of which".replace([' ', ','], "-");
    fs::write(workshop.path("token"), &other).unwrap();
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    wait_for("the old token to be refused", || {
        let code = service.code("/status", &bearer(token));
        (code == 401).then_some(()).ok_or(code.to_string())
    });
    assert_eq!(service.code("/status", &bearer(&other)), 200);
}

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let workshop = workshop("http = \"0.0.0.0:0\"");
    let output = workshop.output(&["check", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("output.http: others reach this address"), "{error}");
    let mut command = workshop.command(&["run", "c.toml"]);
    let service = Service::start(command.env("RESIGHT_HTTP_TOKEN", "from-the-environment"));
    service.expect_log("ready", 0);
    let line = service.expect_log("listening on http://0.0.0.0:", 0);
    let port: u16 = line.rsplit(':').next().unwrap().parse().unwrap();
    let answers = ["", "Authorization: Bearer from-the-environment\r\n"].map(|field| {
        let request = format!("GET /status HTTP/1.1\r\nHost: board.example\r\n{field}\r\n");
        http::ask(("127.0.0.1", port), request.as_bytes()).unwrap().code
    });
    assert_eq!(answers, [401, 200]);
    set_output(&workshop, "http = \"127.0.0.1:0\"\ntoken = \"0123456789abcdef\"");
    let output = workshop.output(&["check", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("output.token: not in this file") && error.contains("token_file"), "{error}");
}

#[test]
fn the_last_frame_is_a_picture() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let mut service = workshop.start();
    service.expect_log("ready", 0);
    let request = &http::request("GET", "/frame.jpg", "");
    let (code, head, body) = service.ask(0, request);
    assert_eq!(code, 200);
    assert!(head.contains("Content-Type: image/jpeg"), "{head}");
    let image = image::load_from_memory(&body).unwrap();
    assert_eq!((image.width(), image.height()), (SIDE, SIDE));
    // What a camera compressed is passed on.
    let grey = jpeg(77);
    fs::write(workshop.path("b.mjpeg"), &grey).unwrap();
    workshop.configure("kind = \"mjpeg\"\npath = \"b.mjpeg\"\nrepeat = true\nrate = 50", ALWAYS);
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    wait_for("the camera's bytes", || {
        let body = service.ask(0, request).2;
        (body == grey).then_some(()).ok_or(format!("{} bytes", body.len()))
    });
    service.signal("TERM");
    assert!(service.finish());
}

#[test]
fn without_frames_there_is_no_picture_and_the_others_still_answer() {
    let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
    let service = workshop.start();
    service.expect_log("listening", 0);
    let waiting: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = service.connect();
            stream.write_all(http::request("GET", "/frame.jpg", "").as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(service.get("/healthz").0, 503);
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

#[test]
fn idle_connections_are_limited_and_end() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let threads = || fs::read_dir(format!("/proc/{}/task", service.child.id())).unwrap().count();
    assert_eq!(service.status()["http_connections"], 1);
    let before = threads();
    let connect = || service.connect();
    let mut idle: Vec<TcpStream> = (0..56).map(|_| connect()).collect();
    // The first ones hold their places until their time is over, the others are closed at once.
    let mut byte = [0];
    assert!(matches!(idle.last_mut().unwrap().read(&mut byte), Ok(0) | Err(_)));
    assert_eq!(threads(), before, "a thread for a client");
    let mut told = String::new();
    idle[0].read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 408 ") && told.ends_with("the request took too long\n"), "{told}");
    wait_for("room", || {
        let answer = http::ask(service.address(0), http::request("GET", "/status", "").as_bytes());
        let answered = answer.as_ref().is_ok_and(|answer| answer.code == 200);
        answered.then_some(()).ok_or(format!("{answer:?}"))
    });
    drop(idle);
    // Until all have gone there may be no place again: each is free a moment after its client has read all.
    wait_for("no connections", || {
        let answer = http::ask(service.address(0), http::request("GET", "/status", "").as_bytes());
        let answer = answer.map_err(|error| error.to_string())?;
        let status: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
        (status["http_connections"] == 1).then_some(()).ok_or(status.to_string())
    });
    assert_eq!(threads(), before);
    assert!(service.status()["http_refused"].as_u64() >= Some(23));
}

/// Lines of events from a socket.
fn reader(path: &Path) -> BufReader<UnixStream> {
    let stream =
        wait_for("the socket", || UnixStream::connect(path).map_err(|error: io::Error| error.to_string()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

#[test]
fn events_come_over_a_socket_and_a_reload_moves_it() {
    let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
    let output = |socket: &str| {
        workshop.configure(STANDARD_INPUT, ALWAYS);
        let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
        let text = text.replace("http =", &format!("events = false\nsocket = \"{socket}\"\nhttp ="));
        fs::write(workshop.path("c.toml"), text).unwrap();
    };
    output("events.sock");
    let mut service = workshop.start();
    let mut readers = [reader(&workshop.path("events.sock")), reader(&workshop.path("events.sock"))];
    let idle = reader(&workshop.path("events.sock"));
    wait_for("three readers", || {
        let status = service.status();
        (status["socket_readers"] == 3).then_some(()).ok_or(status.to_string())
    });
    let mut input = service.child.stdin.take().unwrap();
    input.write_all(&raw_frame()).unwrap();
    for reader in &mut readers {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (event["event"].as_str(), event["rule"].as_str()),
            (Some("active"), Some("any")),
            "{event}"
        );
    }
    drop(idle);
    wait_for("two readers", || {
        let status = service.status();
        (status["socket_readers"] == 2).then_some(()).ok_or(status.to_string())
    });
    assert!(service.events().is_empty());

    fs::write(workshop.path("precious"), "").unwrap();
    output("precious");
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 0).contains("precious"));
    output("other.sock");
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    let _reader = reader(&workshop.path("other.sock"));
    wait_for("the old socket to go", || {
        let gone = !workshop.path("events.sock").exists();
        gone.then_some(()).ok_or_else(String::new)
    });
    service.signal("TERM");
    assert!(service.finish());
    assert!(!workshop.path("other.sock").exists());
}

#[test]
fn an_address_in_use_refuses_the_reload_and_the_old_one_stays() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    set_output(&workshop, &format!("http = \"{address}\""));
    service.signal("HUP");
    let line = service.expect_log("reload refused", 0);
    assert!(line.contains(&address.to_string()) && line.contains("output.http"), "{line}");
    assert_eq!(service.status()["reloads_refused"], 1);
    drop(taken);
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    assert_eq!(service.ask(1, &http::request("GET", "/healthz", "")).0, 200);
}

fn snapshots(workshop: &Workshop, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(workshop.path(folder)) else { return vec![] };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_rule_that_becomes_active_leaves_a_picture() {
    let rules = format!("{ALWAYS}{}", ALWAYS.replace("any", "other").replace("0.9", "0.8"));
    let workshop = Workshop::new("kind = \"mjpeg\"\npath = \"a.mjpeg\"", &rules);
    fs::write(workshop.path("a.mjpeg"), [&jpeg(77)[..], &jpeg(90), &jpeg(100)].concat()).unwrap();
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let section = "[output.snapshots]\nfolder = \"shots\"\nrules = [\"any\"]\n[[line]]";
    fs::write(workshop.path("c.toml"), text.replacen("[[line]]", section, 1)).unwrap();
    let mut service = workshop.start();
    assert!(service.finish());
    let names = snapshots(&workshop, "shots");
    assert_eq!(names.len(), 1, "{names:?}");
    let parts: Vec<&str> = names[0].split('-').collect();
    assert_eq!(
        (parts[0], parts[1], parts[3], parts[6]),
        ("resight", "00000001", "any", "f1.jpg"),
        "{names:?}"
    );
    assert!(parts[4].starts_with("thing_") && parts[5].starts_with("1.0"), "{names:?}");
    assert_eq!(fs::read(workshop.path("shots").join(&names[0])).unwrap(), jpeg(77));
    let event = service.expect_event("active");
    assert_eq!(event["rule"], "any");
}

#[test]
fn an_unknown_rule_of_snapshots_is_refused() {
    let workshop = workshop("http = \"127.0.0.1:0\"\n[output.snapshots]\nfolder = \"x\"\nrules = [\"dog\"]");
    let output = workshop.output(&["check", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("output.snapshots.rules: there is no valid [[rule]] `dog`"), "{error}");
}

#[test]
fn a_full_disk_stops_nothing() {
    let rules = (0..5).map(|index| ALWAYS.replace("any", &format!("any{index}"))).collect::<String>();
    let workshop = Workshop::new("kind = \"images\"\npath = \"pictures\"\nrepeat = true\nrate = 50", &rules);
    let big = image::RgbImage::from_fn(600, 400, |x, y| {
        image::Rgb([x * y, x * 31 + y, y * 17].map(|v| (v % 251) as u8))
    });
    fs::create_dir(workshop.path("pictures")).unwrap();
    big.save(workshop.path("pictures/a.png")).unwrap();
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let section = "[output.snapshots]\nfolder = \"shots\"\n[[line]]";
    fs::write(workshop.path("c.toml"), text.replacen("[[line]]", section, 1)).unwrap();
    // A limit on the size of files, of 8 blocks of 1024 bytes, fails writes as a full disk does.
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" run c.toml", env!("CARGO_BIN_EXE_resightd")]);
    command
        .current_dir(workshop.path(""))
        .env_remove("RESIGHT_ISA")
        .env_remove("RUST_LOG")
        .env_remove("NOTIFY_SOCKET");
    let mut service = Service::start(&mut command);
    wait_for("failed snapshots", || {
        let status = service.status();
        let failed = status["snapshot_errors"].as_u64() >= Some(1) && status["inferences"].as_u64() > Some(5);
        failed.then_some(()).ok_or(status.to_string())
    });
    let line = service.expect_log("snapshots: ", 0);
    assert!(line.contains("File too large"), "{line}");
    assert!(snapshots(&workshop, "shots").is_empty());
    let status = service.status();
    assert_eq!(
        (status["snapshots_written"].as_u64(), status["lines"]["lamp"].as_bool()),
        (Some(0), Some(true))
    );
    service.signal("TERM");
    assert!(service.finish());
}

#[test]
fn a_folder_that_cannot_be_written_stops_nothing() {
    let workshop = workshop("http = \"127.0.0.1:0\"\n[output.snapshots]\nfolder = \"/proc/resight\"");
    let mut service = workshop.start();
    wait_for("failed snapshots", || {
        let status = service.status();
        let failed = status["snapshot_errors"].as_u64() >= Some(2) && status["lines"]["lamp"] == true;
        failed.then_some(()).ok_or(status.to_string())
    });
    let line = service.expect_log("snapshots: /proc/resight", 0);
    assert!(line.contains("output.snapshots"), "{line}");
    service.signal("TERM");
    assert!(service.finish());
}

/// A service that reads frames from standard input and tells a broker.
fn with_broker(mqtt: &str) -> Workshop {
    let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let section = format!("[output.mqtt]\nclient_id = \"board\"\ntopic = \"r\"\n{mqtt}\n[[line]]");
    fs::write(workshop.path("c.toml"), text.replacen("[[line]]", &section, 1)).unwrap();
    workshop
}

#[test]
fn a_broker_is_told_states_and_events_and_again_when_it_comes_back() {
    let broker = Broker::start(0, None);
    let port = broker.address.port();
    let workshop = with_broker(&format!(
        "url = \"mqtt://127.0.0.1:{port}\"\nusername = \"user\"\npassword_file = \"secret\"\nhome_assistant = true"
    ));
    fs::write(workshop.path("secret"), "open sesame\n").unwrap();
    let mut service = workshop.start();
    let mut input = service.child.stdin.take().unwrap();
    assert!(broker.expect("r/availability", |payload| payload == "online").2);
    assert!(broker.expect("r/rule/any", |payload| payload == "OFF").2);
    input.write_all(&raw_frame()).unwrap();
    assert!(broker.expect("r/rule/any", |payload| payload == "ON").2);
    broker.expect("r/line/lamp", |payload| payload == "ON");
    let (_, event, retained) = broker.expect("r/event", |payload| payload.contains("\"active\""));
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!((event["rule"].as_str(), event["frame"].as_u64(), retained), (Some("any"), Some(1), false));
    let (_, sensor, retained) = broker
        .expect("homeassistant/binary_sensor/board/line_lamp/config", |payload| payload.contains("lamp"));
    let sensor: Value = serde_json::from_str(&sensor).unwrap();
    assert_eq!((sensor["state_topic"].as_str(), retained), (Some("r/line/lamp"), true), "{sensor}");
    // The will, the name and the password.
    let greeting = broker.greetings.lock().unwrap()[0].clone();
    for part in ["r/availability", "offline", "user", "open sesame"] {
        assert!(greeting.contains(part), "{greeting:?} lacks {part}");
    }
    // Without frames the rule and the line fall back.
    wait_for("the states to fall", || {
        let last = (broker.last("r/rule/any"), broker.last("r/line/lamp"));
        let fallen = last == (Some("OFF".into()), Some("OFF".into()));
        fallen.then_some(()).ok_or(format!("{last:?}"))
    });

    drop(broker);
    service.expect_log("next attempt in", 0);
    input.write_all(&raw_frame()).unwrap();
    service.expect_log("frames come again", 0);
    let status = service.status();
    assert_eq!(
        (status["mqtt_connected"].as_u64(), status["mqtt_errors"].as_u64() >= Some(1)),
        (Some(0), true)
    );
    let broker = Broker::start(port, None);
    broker.expect("r/availability", |payload| payload == "online");
    broker.expect("r/event", |payload| payload.contains("\"recovered\""));
    broker.expect("homeassistant/binary_sensor/board/rule_any/config", |payload| !payload.is_empty());
    assert!(broker.last("r/rule/any").is_some());
    wait_for("the connection to be shown", || {
        let status = service.status();
        (status["mqtt_connected"] == 1).then_some(()).ok_or(status.to_string())
    });
    service.signal("TERM");
    assert!(service.finish());
    broker.expect("r/availability", |payload| payload == "offline");
}

#[test]
fn a_reload_moves_to_another_broker() {
    let [first, second] = [Broker::start(0, None), Broker::start(0, None)];
    let workshop = with_broker(&format!("url = \"mqtt://{}\"", first.address));
    let mut service = workshop.start();
    first.expect("r/rule/any", |payload| payload == "OFF");
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let missing =
        text.replace("topic = \"r\"", "topic = \"r\"\nusername = \"u\"\npassword_file = \"missing\"");
    fs::write(workshop.path("c.toml"), missing).unwrap();
    let mut input = service.child.stdin.take().unwrap();
    input.write_all(&raw_frame()).unwrap();
    service.signal("HUP");
    assert!(service.expect_log("reload refused", 0).contains("missing"));
    fs::write(workshop.path("c.toml"), text.replace(&first.address.to_string(), &second.address.to_string()))
        .unwrap();
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    second.expect("r/availability", |payload| payload == "online");
    first.expect("r/availability", |payload| payload == "offline");
    service.signal("TERM");
    assert!(service.finish());
}

#[test]
fn an_encrypted_broker_needs_a_certificate_that_is_trusted() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let broker = Broker::start(0, Some(Arc::new(tls)));
    let workshop =
        with_broker(&format!("url = \"mqtts://localhost:{}\"\nca_file = \"ca.pem\"", broker.address.port()));
    fs::write(workshop.path("ca.pem"), "no certificate").unwrap();
    let output = workshop.output(&["run", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("ca.pem: no certificates"), "{error}");
    fs::write(workshop.path("ca.pem"), other.cert.pem()).unwrap();
    let service = workshop.start();
    let line = service.expect_log("next attempt in", 0);
    assert!(line.contains("certificate"), "{line}");
    assert!(broker.told.lock().unwrap().is_empty());
    // Only the file's content changes.
    fs::write(workshop.path("ca.pem"), made.cert.pem()).unwrap();
    let mut service = service;
    service.child.stdin.as_mut().unwrap().write_all(&raw_frame()).unwrap();
    service.signal("HUP");
    service.expect_log("reloaded", 0);
    broker.expect("r/availability", |payload| payload == "online");
}

#[test]
fn a_password_in_the_configuration_is_refused() {
    let workshop = with_broker("url = \"mqtt://a:b@host\"\npassword = \"sesame\"");
    let output = workshop.output(&["check", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("output.mqtt.password: not in this file") && error.contains("password_file"),
        "{error}"
    );
    assert!(error.contains("output.mqtt.url: expected"), "{error}");
    assert!(!error.contains("sesame"), "{error}");
}

#[test]
fn mosquitto_keeps_the_states_and_sends_the_last_will() {
    let find =
        |name: &str| ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|folder| Path::new(folder).join(name));
    let Some(program) = find("mosquitto").into_iter().find(|path| path.exists()) else {
        skipped("mosquitto is not installed");
        return;
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let workshop = with_broker(&format!("url = \"mqtt://127.0.0.1:{port}\""));
    let configuration = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
    fs::write(workshop.path("mosquitto.conf"), configuration).unwrap();
    let start = || {
        let mut command = Command::new(&program);
        Service::start(command.args(["-c", "mosquitto.conf"]).current_dir(workshop.path("")))
    };
    let mut mosquitto = start();
    let mut service = workshop.start();
    let mut input = service.child.stdin.take().unwrap();
    input.write_all(&raw_frame()).unwrap();
    service.expect_log("MQTT: connected", 0);
    let retained = |topic: &str, wanted: &str| {
        wait_for(topic, || {
            let last = retained(port, topic);
            (last.as_deref() == Some(wanted)).then_some(()).ok_or(format!("{last:?}"))
        });
    };
    retained("r/availability", "online");
    retained("r/rule/any", "OFF");
    // A broker without memory of the states, after a restart.
    mosquitto.child.kill().unwrap();
    mosquitto.child.wait().unwrap();
    mosquitto = start();
    service.expect_log("MQTT: connected", 1);
    retained("r/availability", "online");
    retained("r/line/lamp", "OFF");
    service.child.kill().unwrap();
    retained("r/availability", "offline");
    drop(mosquitto);
}

#[test]
fn under_systemd_lines_have_levels_and_no_times() {
    use std::os::unix::fs::MetadataExt as _;
    let workshop = Workshop::new(&STANDARD_INPUT.replace('-', "a.rgb"), ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    let run = |journal: Option<fn(u64, u64) -> String>, configuration: &str| {
        let log = fs::File::create(workshop.path("log")).unwrap();
        let metadata = log.metadata().unwrap();
        let mut command = workshop.command(&["run", configuration]);
        command.env_remove("JOURNAL_STREAM").stdout(Stdio::null()).stderr(log);
        if let Some(journal) = journal {
            command.env("JOURNAL_STREAM", journal(metadata.dev(), metadata.ino()));
        }
        command.status().unwrap();
        fs::read_to_string(workshop.path("log")).unwrap()
    };
    let journal: fn(u64, u64) -> String = |device, inode| format!("{device}:{inode}");
    let log = run(Some(journal), "c.toml");
    assert!(log.lines().count() > 3 && log.lines().all(|line| line.starts_with("<6>resightd::")), "{log}");
    fs::write(workshop.path("bad.toml"), "[model]\nfile = 3\n").unwrap();
    let log = run(Some(journal), "bad.toml");
    assert!(log.lines().count() > 1 && log.lines().all(|line| line.starts_with("<3>resightd: ")), "{log}");
    // Elsewhere, as when the variable is inherited by a program with its own standard error.
    for other in [None, Some((|device, inode| format!("{device}:{}", inode + 1)) as fn(u64, u64) -> String)] {
        let log = run(other, "c.toml");
        assert!(log.lines().all(|line| line.starts_with("[20") && line.contains(" INFO ")), "{log}");
    }
}

#[test]
fn a_fault_that_lasts_does_not_fill_the_log() {
    let workshop = workshop("http = \"127.0.0.1:0\"\n[output.snapshots]\nfolder = \"/proc/resight\"");
    let rules = ALWAYS.replace("threshold = 0.9", "threshold = 0.9\nmode = \"toggle\"");
    let many = (0..40).map(|index| rules.replace("any", &format!("any{index}"))).collect::<String>();
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    fs::write(workshop.path("c.toml"), text.replace(ALWAYS, "")).unwrap();
    let mut service = workshop.start();
    service.expect_log("ready", 0);
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    // New rules at each reload, so each takes snapshots anew.
    for round in 0..30 {
        let rules = many.replace("any", &format!("round{round}_"));
        fs::write(workshop.path("c.toml"), format!("{text}{rules}")).unwrap();
        service.signal("HUP");
        wait_for("the reload", || {
            let status = service.status();
            (status["reloads"] == round + 1).then_some(()).ok_or(status.to_string())
        });
        wait_for("a failure", || {
            let status = service.status();
            (status["snapshot_errors"].as_u64() > Some(round)).then_some(()).ok_or(status.to_string())
        });
    }
    service.signal("TERM");
    assert!(service.finish());
    service.expect_log("were left out", 0);
    let log = service.log.lock().unwrap();
    assert!(log.iter().filter(|line| line.contains("snapshots: ")).count() <= 20, "{log:#?}");
}
