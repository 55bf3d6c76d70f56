//! The service of the demonstration: a process of its own, and what the terminal shows of it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use resight_base::console::print_line;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::service::SERVICE;

/// How long the service runs when nobody can end it from a terminal.
const SECONDS: u64 = 27;
/// How often the terminal is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// How long the service may take to answer for the first time, and to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Events that stay on the screen.
const EVENTS: usize = 6;

/// Runs the service and shows what it does, until it is told to stop.
pub(super) fn watch(
    configuration: &Path,
    log: &Path,
    address: SocketAddr,
    limit: Option<u64>,
    cameras: u32,
) -> Result<()> {
    let terminal = io::stderr().is_terminal();
    let end = match limit {
        None if terminal => None,
        limit => Some(Duration::from_secs(limit.unwrap_or(SECONDS))),
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone()).context("cannot handle signals")?;
    }
    let mut service = Service::start(configuration, log)?;
    let mut screen = Screen::new(terminal, address, end, cameras)?;
    let start = Instant::now();
    let mut seen = None;
    let mut answered = false;
    while !interrupted.load(Ordering::SeqCst) && end.is_none_or(|end| start.elapsed() < end) {
        if let Some(status) = service.child.try_wait().context("the service cannot be watched")? {
            bail!("the service ended ({status}); see {}", log.display());
        }
        while let Ok(event) = service.events.try_recv() {
            screen.event(&event)?;
        }
        match status(address) {
            Some(status) => {
                answered = true;
                screen.status(&status);
                seen = Some(status);
            }
            None => {
                ensure!(
                    answered || start.elapsed() < PATIENCE,
                    "the service does not answer; see {}",
                    log.display()
                );
            }
        }
        thread::sleep(REDRAW);
    }
    service.stop()?;
    screen.finish();
    if let Some(status) = seen {
        print_line(format_args!("{}", summary(&status)))?;
    }
    Ok(())
}

/// The service as a process of its own. It is ended with this.
struct Service {
    child: Child,
    events: Receiver<Value>,
}

impl Service {
    fn start(configuration: &Path, log: &Path) -> Result<Self> {
        let errors = File::create(log).with_context(|| format!("{}: cannot write", log.display()))?;
        let program = std::env::current_exe().context("this program's file cannot be found")?;
        let mut child = Command::new(&program)
            .args([SERVICE.as_ref(), "run".as_ref(), configuration.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("{}: cannot start", program.display()))?;
        let (sender, events) = channel();
        let read = move |output: ChildStdout| {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(event) = serde_json::from_str(&line) else { continue };
                if sender.send(event).is_err() {
                    break;
                }
            }
        };
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || read(output));
        }
        Ok(Self { child, events })
    }

    /// Lets it make its lines safe and waits for it.
    fn stop(&mut self) -> Result<()> {
        let start = Instant::now();
        self.terminate();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().context("the service cannot be watched")?.is_some() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the service does not end; it is killed")
    }

    fn terminate(&self) {
        // It may have ended by itself, and its process is not reaped before.
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What the service does: lines that are drawn again on a terminal, a line for each event elsewhere.
struct Screen {
    lines: Option<(MultiProgress, Vec<ProgressBar>)>,
    address: SocketAddr,
    end: Option<Duration>,
    events: Vec<String>,
}

impl Screen {
    fn new(terminal: bool, address: SocketAddr, end: Option<Duration>, cameras: u32) -> Result<Self> {
        let lines = terminal.then(|| lines(cameras as usize));
        let screen = Self { lines, address, end, events: vec![] };
        if !terminal {
            print_line(format_args!(
                "Page: http://{address}/   (ends by itself after {} s)",
                end.unwrap_or_default().as_secs()
            ))?;
        }
        Ok(screen)
    }

    fn event(&mut self, event: &Value) -> Result<()> {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let line = match event["event"].as_str() {
            Some(kind @ ("active" | "inactive")) => format!(
                "frame {:>5}  rule {:<8} {kind:<9} {} {:.2}{}",
                event["frame"].as_u64().unwrap_or_default(),
                text("rule"),
                text("name"),
                event["score"].as_f64().unwrap_or_default(),
                event["track"].as_u64().map_or_else(String::new, |track| format!("  #{track}"))
            ),
            _ => format!("frame {:>5}  {}", event["frame"].as_u64().unwrap_or_default(), text("event")),
        };
        if self.lines.is_none() {
            print_line(format_args!("  {line}"))?;
        }
        self.events.push(line);
        if self.events.len() > EVENTS {
            self.events.remove(0);
        }
        Ok(())
    }

    fn status(&self, status: &Value) {
        let Some((_, lines)) = &self.lines else { return };
        let ending = match self.end {
            None => "Ctrl-C ends".to_owned(),
            Some(end) => format!("ends after {} s", end.as_secs()),
        };
        let mut text = vec![format!("page     http://{}/   ({ending})", self.address)];
        let name = |camera: &Value| camera["name"].as_str().unwrap_or_default().to_owned();
        match status["camera_figures"].as_array() {
            None => text.push(seen_line("sees", &status["last"])),
            Some(cameras) => {
                text.extend(cameras.iter().map(|camera| seen_line(&name(camera), &camera["last"])));
            }
        }
        text.push(format!("speed    {}", speed(status)));
        text.push(format!("lines    {}", levels(&status["lines"])));
        let counted = counts(status);
        if !counted.is_empty() {
            text.push(format!("counted  {counted}"));
        }
        text.push("events".to_owned());
        text.extend(self.events.iter().map(|event| format!("  {event}")));
        text.resize(lines.len(), String::new());
        for (line, text) in lines.iter().zip(text) {
            line.set_message(text);
        }
    }

    fn finish(&self) {
        for line in self.lines.iter().flat_map(|(_, lines)| lines) {
            line.abandon();
        }
    }
}

fn lines(cameras: usize) -> (MultiProgress, Vec<ProgressBar>) {
    let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let line = || {
        let line = all.add(ProgressBar::new_spinner());
        // The template is a constant.
        if let Ok(style) = ProgressStyle::with_template("  {wide_msg}") {
            line.set_style(style);
        }
        line
    };
    let lines = (0..5 + cameras + EVENTS).map(|_| line()).collect();
    (all, lines)
}

fn seen_line(who: &str, last: &Value) -> String {
    let probability = last["probability"].as_f64().unwrap_or_default();
    let bar = (probability * 24.0).round() as usize;
    format!(
        "{who:<8} {:<9} {:>5.1} %  {}{}",
        last["name"].as_str().unwrap_or("no frame yet"),
        probability * 100.0,
        "█".repeat(bar),
        "░".repeat(24 - bar.min(24))
    )
}

fn speed(status: &Value) -> String {
    let number = |group: &str, key: &str| status[group][key].as_f64().unwrap_or_default();
    let rate = status["inferences"].as_f64().unwrap_or_default()
        / status["uptime_s"].as_f64().unwrap_or(1.0).max(0.1);
    format!(
        "{rate:.1} frames/s; network {:.1} ms; frame to line {:.1} ms, 99 of 100 within {:.1} ms ({})",
        number("inference", "p50_ms"),
        number("latency", "p50_ms"),
        number("latency", "p99_ms"),
        status["kernels"].as_str().unwrap_or_default()
    )
}

/// How many things each rule has counted that has counted any.
fn counts(status: &Value) -> String {
    let mut text = vec![];
    for rule in status["rules"].as_array().into_iter().flatten() {
        let classes = rule["counted"].as_object().into_iter().flatten();
        let count: u64 = classes.filter_map(|(_, count)| count.as_u64()).sum();
        if count > 0 {
            text.push(format!("{} {count}", rule["name"].as_str().unwrap_or_default()));
        }
    }
    text.join(", ")
}

fn levels(lines: &Value) -> String {
    let mut text = String::new();
    for (name, level) in lines.as_object().into_iter().flatten() {
        let level = if level.as_bool() == Some(true) { "● ON " } else { "○ off" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{name} {level}   ");
    }
    text
}

fn summary(status: &Value) -> String {
    let counted = counts(status);
    let counted = if counted.is_empty() { counted } else { format!("; counted: {counted}") };
    format!(
        "{} frames classified, {} changes of rules{counted}; {}",
        status["inferences"].as_u64().unwrap_or_default(),
        status["events"].as_u64().unwrap_or_default(),
        speed(status)
    )
}

/// The service's `/status`, if it answers.
fn status(address: SocketAddr) -> Option<Value> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    write!(stream, "GET /status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
