//! A service to be tested: its folder, its process, what it says, and systemd beside it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resight_fixtures::http::{self, Answer};
use resight_fixtures::{TINY_MODEL, TINY_SIDE};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes so long on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Side of the raw frames.
pub(crate) const SIDE: u32 = TINY_SIDE;

/// A folder with the model and a configuration.
pub(crate) struct Workshop(TempDir);

impl Workshop {
    pub(crate) fn new(source: &str, rules: &str) -> Self {
        let workshop = Self(tempfile::tempdir().unwrap());
        fs::write(workshop.path("m.tar"), TINY_MODEL).unwrap();
        workshop.configure(source, rules);
        workshop
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn configure(&self, source: &str, rules: &str) {
        let text = format!(
            "[model]\nfile = \"m.tar\"\nthreads = 1\n[source]\n{source}\n[safety]\nstale_ms = 400\n\
             [output]\nhttp = \"127.0.0.1:0\"\n[[line]]\nname = \"lamp\"\nbackend = \"virtual\"\n{rules}"
        );
        fs::write(self.path("c.toml"), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resightd"));
        command.args(arguments).current_dir(self.0.path());
        command.env_remove("RESIGHT_ISA").env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET");
        command
    }

    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs and expects success; gives standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn start(&self) -> Service {
        let mut command = self.command(&["run", "c.toml"]);
        Service::start(command.stdin(Stdio::piped()))
    }
}

/// A running service; both its outputs are gathered.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
}

impl Service {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let events = gather(child.stdout.take().unwrap());
        let log = gather(child.stderr.take().unwrap());
        Self { child, events, log }
    }

    /// Waits for a line of the log that holds `words`, after `skip` others that do.
    pub(crate) fn expect_log(&self, words: &str, skip: usize) -> String {
        wait_for(words, || {
            let log = self.log.lock().unwrap();
            log.iter().filter(|line| line.contains(words)).nth(skip).cloned().ok_or_else(|| log.join("\n"))
        })
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn expect_event(&self, event: &str) -> Value {
        wait_for(event, || {
            let events = self.events();
            events.iter().find(|value| value["event"] == event).cloned().ok_or(format!("{events:?}"))
        })
    }

    /// Where it listens, by the order in which its log tells of listeners.
    pub(crate) fn address(&self, listener: usize) -> String {
        let line = self.expect_log("listening on http://", listener);
        line.rsplit("http://").next().unwrap().to_owned()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address(0)).unwrap()
    }

    /// Sends a request as it is; gives status code, header and body of the answer.
    pub(crate) fn ask(&self, listener: usize, request: &str) -> (u16, String, Vec<u8>) {
        let Answer { code, head, body } = http::ask(self.address(listener), request.as_bytes()).unwrap();
        (code, head, body)
    }

    /// Asks over HTTP; gives the status code and the body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (code, _, body) = self.ask(0, &http::request("GET", path, ""));
        (code, String::from_utf8(body).unwrap())
    }

    /// As `get`, with more fields, of which each ends with `\r\n`; gives the status code.
    pub(crate) fn code(&self, path: &str, fields: &str) -> u16 {
        self.ask(0, &http::request("GET", path, fields)).0
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").1).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for the end; gives whether it was a success.
    pub(crate) fn finish(&mut self) -> bool {
        wait_for("the end", || self.child.try_wait().unwrap().ok_or_else(String::new)).success()
    }

    /// The last state of the lamp that the log shows.
    pub(crate) fn lamp(&self) -> String {
        let log = self.log.lock().unwrap();
        log.iter().rfind(|line| line.contains("virtual line lamp")).cloned().unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails when it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What systemd would be told.
pub(crate) struct Manager(Arc<Mutex<Vec<String>>>);

impl Manager {
    pub(crate) fn listen(workshop: &Workshop) -> Self {
        let socket = UnixDatagram::bind(workshop.path("notify")).unwrap();
        let messages = Arc::new(Mutex::new(vec![]));
        let target = messages.clone();
        // Always read: a full queue loses messages.
        thread::spawn(move || {
            let mut buffer = [0; 1000];
            while let Ok(length) = socket.recv(&mut buffer) {
                target.lock().unwrap().push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
        });
        Self(messages)
    }

    pub(crate) fn start(workshop: &Workshop) -> Service {
        let mut command = workshop.command(&["run", "c.toml"]);
        command.env("NOTIFY_SOCKET", workshop.path("notify"));
        Service::start(command.stdin(Stdio::piped()))
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.messages().iter().filter(|message| message.starts_with(start)).count()
    }

    /// Waits for so many messages that begin like this.
    pub(crate) fn expect(&self, start: &str, count: usize) {
        wait_for(start, || {
            (self.count(start) >= count).then_some(()).ok_or(format!("{:?}", self.messages()))
        });
    }
}

pub(crate) fn gather(stream: impl std::io::Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(vec![]));
    let target = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            target.lock().unwrap().push(line.unwrap());
        }
    });
    lines
}

/// Tries until there is a result; panics with the last error after a long time.
pub(crate) fn wait_for<T, E: std::fmt::Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(result) => return result,
            Err(error) => assert!(start.elapsed() < PATIENCE, "waiting for {what}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A rule that every frame satisfies: all probabilities together are 1.
pub(crate) const ALWAYS: &str =
    "[[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nthreshold = 0.9\nlines = [\"lamp\"]\n";

pub(crate) const STANDARD_INPUT: &str =
    "kind = \"raw\"\npath = \"-\"\nformat = \"rgb24\"\nwidth = 32\nheight = 32";

pub(crate) fn raw_frame() -> Vec<u8> {
    (0..SIDE * SIDE * 3).map(|index| (index * 7 % 256) as u8).collect()
}

pub(crate) fn write_raw(path: &Path, frames: usize) {
    fs::write(path, raw_frame().repeat(frames)).unwrap();
}

pub(crate) fn jpeg(grey: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(vec![]);
    let image = image::RgbImage::from_pixel(SIDE, SIDE, image::Rgb([grey; 3]));
    image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// Replaces an input's file in one step.
pub(crate) fn set_input(workshop: &Workshop, level: &str) {
    fs::write(workshop.path("new"), level).unwrap();
    fs::rename(workshop.path("new"), workshop.path("key")).unwrap();
}

/// Frames without end, and a rule that turns on and off as the service is told to.
pub(crate) fn endless() -> String {
    format!("{}\nrepeat = true\nrate = 50", STANDARD_INPUT.replace('-', "a.rgb"))
}

/// A folder whose configuration has `output` in place of the usual section.
pub(crate) fn workshop(output: &str) -> Workshop {
    let workshop = Workshop::new(&endless(), ALWAYS);
    write_raw(&workshop.path("a.rgb"), 3);
    set_output(&workshop, output);
    workshop
}

pub(crate) fn set_output(workshop: &Workshop, output: &str) {
    workshop.configure(&endless(), ALWAYS);
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let text = text.replace("[output]\nhttp = \"127.0.0.1:0\"\n", &format!("[output]\n{output}\n"));
    fs::write(workshop.path("c.toml"), text).unwrap();
}
