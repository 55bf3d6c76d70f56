//! Programs as sources, and cameras in the network through one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::*;

/// A program that writes frames, and its number into a file.
const ENDLESS: &str = "kind = \"command\"\nstream = \"raw\"\nformat = \"rgb24\"\nwidth = 32\nheight = 32\n\
    command = [\"sh\", \"-c\", \"echo $$ > pid; while cat a.rgb; do sleep 0.02; done\"]";

fn with_program() -> Workshop {
    let workshop = Workshop::new(ENDLESS, ALWAYS);
    write_raw(&workshop.path("a.rgb"), 1);
    workshop
}

/// Whether it is there and no zombie.
fn is_alive(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|text| !text.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn a_program_ends_with_the_service_however_that_ends() {
    for signal in ["TERM", "KILL"] {
        let workshop = with_program();
        let mut service = workshop.start();
        service.expect_event("active");
        let pid = fs::read_to_string(workshop.path("pid")).unwrap();
        let pid = pid.trim();
        assert!(is_alive(pid));
        service.signal(signal);
        assert_eq!(service.finish(), signal == "TERM");
        wait_for("its end", || if is_alive(pid) { Err(pid.to_owned()) } else { Ok(()) });
    }
}

#[test]
fn a_program_that_ends_is_started_again_and_its_last_words_are_shown() {
    let workshop = with_program();
    let mut service = workshop.start();
    service.expect_event("active");
    let first = fs::read_to_string(workshop.path("pid")).unwrap();
    fs::rename(workshop.path("a.rgb"), workshop.path("b.rgb")).unwrap();
    service.expect_log("source lost: sh: the program has ended", 0);
    service.expect_log("no source: sh: the program has ended (exit status: 0); its last words: cat", 0);
    service.expect_log("sh: cat: a.rgb: No such file", 0);
    wait_for("status", || {
        let source = &service.status()["source"];
        let shown = source["error"].as_str().is_some_and(|text| text.contains("No such file"));
        let named = source["name"] == "sh" && source["state"] == "lost";
        if shown && named { Ok(()) } else { Err(source.to_string()) }
    });
    service.expect_event("stale");
    assert!(service.lamp().contains("inactive"), "{}", service.lamp());
    fs::rename(workshop.path("b.rgb"), workshop.path("a.rgb")).unwrap();
    service.expect_event("recovered");
    assert_ne!(fs::read_to_string(workshop.path("pid")).unwrap(), first);
    service.signal("TERM");
    assert!(service.finish());
}

#[test]
fn a_reload_ends_the_program_and_check_names_one_that_is_missing() {
    let workshop = with_program();
    let mut service = workshop.start();
    service.expect_event("active");
    let pid = fs::read_to_string(workshop.path("pid")).unwrap();
    workshop.configure(&endless(), ALWAYS);
    service.signal("HUP");
    wait_for("its end", || if is_alive(pid.trim()) { Err(pid.clone()) } else { Ok(()) });
    service.signal("TERM");
    assert!(service.finish());
    workshop.configure(&ENDLESS.replace("\"sh\"", "\"no-such-program\""), ALWAYS);
    let output = workshop.output(&["check", "c.toml"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("there is no program no-such-program"), "{told}");
}

/// A camera in the network, on loopback. Ends with this.
struct Camera(Child);

impl Camera {
    /// `None` where this machine has no such server, which is said.
    fn start(port: u16, options: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/service/rtsp_server.py");
        let has_ffmpeg = Command::new("ffmpeg").arg("-version").stdout(Stdio::null()).status().is_ok();
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(port.to_string()).args(options);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok().filter(|_| has_ffmpeg);
        let Some(mut child) = child else {
            resight_fixtures::skipped(
                "no ffmpeg or no /usr/bin/python3; tests/service/rtsp_tools installs them",
            );
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let camera = Self(child);
        if line.trim() != "ready" {
            resight_fixtures::skipped("no RTSP server of GStreamer; tests/service/rtsp_tools installs it");
            return None;
        }
        Some(camera)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its configuration, as the guide has it.
fn by_ffmpeg(port: u16, user: &str) -> String {
    format!(
        "kind = \"command\"\nstream = \"y4m\"\ncommand = [\"ffmpeg\", \"-loglevel\", \"error\", \
         \"-fpsprobesize\", \"0\", \"-rtsp_transport\", \"tcp\", \"-i\", \"rtsp://{user}127.0.0.1:{port}/cam\", \"-an\", \"-vf\", \
         \"scale=32:32\", \"-pix_fmt\", \"yuv420p\", \"-f\", \"yuv4mpegpipe\", \"-\"]"
    )
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn counts(service: &Service, name: &str) -> u64 {
    service.status()[name].as_u64().unwrap()
}

#[test]
fn a_camera_in_the_network_may_come_late_go_and_come_back() {
    let port = free_port();
    let workshop = Workshop::new(&by_ffmpeg(port, ""), ALWAYS);
    if Camera::start(free_port(), &[]).is_none() {
        return;
    }
    let mut service = workshop.start();
    service.expect_log("no source: ffmpeg: the program has ended", 0);
    let camera = Camera::start(port, &[]);
    service.expect_event("active");
    drop(camera);
    service.expect_log("source lost: ffmpeg: ", 0);
    service.expect_event("stale");
    let _camera = Camera::start(port, &[]);
    service.expect_event("recovered");
    service.signal("TERM");
    assert!(service.finish());
    let corrupt = service.expect_log(" corrupt; latency", 0);
    assert!(corrupt.contains(" 0 corrupt"), "{corrupt}");
}

#[test]
fn a_wrong_password_is_said_and_never_shown() {
    let port = free_port();
    let Some(_camera) = Camera::start(port, &["--user", "me", "right"]) else { return };
    let workshop = Workshop::new(&by_ffmpeg(port, "me:wr0ng@"), ALWAYS);
    let mut service = workshop.start();
    let told = service.expect_log("no source: ffmpeg: ", 0);
    assert!(told.contains("401 Unauthorized"), "{told}");
    let status: Value = wait_for("status", || {
        let status = service.status();
        if status["source"]["state"] == "lost" { Ok(status) } else { Err(status.to_string()) }
    });
    let error = status["source"]["error"].as_str().unwrap();
    assert!(error.contains("401 Unauthorized"), "{error}");
    assert!(!status.to_string().contains("wr0ng"), "{status}");
    assert!(!service.log.lock().unwrap().iter().any(|line| line.contains("wr0ng")));
    workshop.configure(&by_ffmpeg(port, "me:right@"), ALWAYS);
    service.signal("HUP");
    service.expect_event("active");
    service.signal("TERM");
    assert!(service.finish());
}

#[test]
fn a_slow_camera_in_the_network_is_waited_for() {
    let port = free_port();
    let Some(_camera) = Camera::start(port, &["--rate", "1"]) else { return };
    let workshop = Workshop::new(&by_ffmpeg(port, ""), ALWAYS);
    let mut service = workshop.start();
    wait_for("frames", || match counts(&service, "inferences") {
        0..4 => Err(service.status().to_string()),
        _ => Ok(()),
    });
    assert_eq!(counts(&service, "source_errors"), 0);
    // A second between two frames is more than what makes the lines safe here.
    assert!(counts(&service, "stale_periods") >= 1);
    service.signal("TERM");
    assert!(service.finish());
}
