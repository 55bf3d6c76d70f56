//! Every fault that a host can bring about, in a random order, against one process that must
//! recover from each and grow in nothing. Cameras and lines have theirs on the emulated board.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use resight_fixtures::{Random, TINY_MODEL, http};

use crate::broker::Broker;
use crate::harness::*;

/// Faults by default: a few for each kind. `RESIGHT_FAULTS` is another number.
const FAULTS: usize = 150;

/// Faults after which everything that is made once has been made.
const WARM: usize = 60;

/// What a host can bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Rubbish,
    CutFrame,
    DamagedFrame,
    /// The writer goes in the middle of a frame; the next one finds a clean start.
    WriterGoes,
    /// Longer than frames may stay away.
    NoFrames,
    BadConfiguration,
    NoConfiguration,
    CutModel,
    OtherRule,
    NoCamera,
    /// Clients that say nothing, half, rubbish, and what they do not wait for.
    BadClients,
    OtherPaths,
    ReaderGoes,
    BrokerGoes,
    NoFolder,
    NoInput,
    OtherSource,
    /// Several at once.
    Reloads,
}

impl Fault {
    const ALL: [Self; 18] = [
        Self::Rubbish,
        Self::CutFrame,
        Self::DamagedFrame,
        Self::WriterGoes,
        Self::NoFrames,
        Self::BadConfiguration,
        Self::NoConfiguration,
        Self::CutModel,
        Self::OtherRule,
        Self::NoCamera,
        Self::BadClients,
        Self::OtherPaths,
        Self::ReaderGoes,
        Self::BrokerGoes,
        Self::NoFolder,
        Self::NoInput,
        Self::OtherSource,
        Self::Reloads,
    ];

    /// Whether it lasts until somebody repairs it.
    fn lasts(self) -> bool {
        matches!(
            self,
            Self::BadConfiguration
                | Self::NoConfiguration
                | Self::NoCamera
                | Self::BrokerGoes
                | Self::NoInput
                | Self::OtherSource
        )
    }
}

struct Scene {
    workshop: Workshop,
    service: Service,
    broker: Option<Broker>,
    port: u16,
    /// Over HTTP, who have not gone yet.
    clients: Vec<TcpStream>,
    /// Configurations that were applied, and refused.
    reloads: [u64; 2],
    random: Random,
}

/// What a process holds.
#[derive(Debug, PartialEq)]
struct Held {
    files: usize,
    threads: usize,
    /// Resident, in units of 1024 bytes.
    memory: u64,
}

impl Scene {
    fn start() -> Self {
        let workshop = Workshop::new(STANDARD_INPUT, ALWAYS);
        assert!(Command::new("mkfifo").arg(workshop.path("frames")).status().unwrap().success());
        set_input(&workshop, "1");
        let broker = Broker::start(0, None);
        let port = broker.address.port();
        write_configuration(&workshop, port, "any", FIFO);
        let service = workshop.start();
        Self {
            workshop,
            service,
            broker: Some(broker),
            port,
            clients: vec![],
            reloads: [0, 0],
            random: Random::new(20_261_125),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workshop.path(name)
    }

    /// Somebody who writes frames, for as long as this is kept.
    fn writer(&self) -> File {
        // The service reads it, or will soon.
        wait_for("a reader of the FIFO", || {
            use std::os::unix::fs::OpenOptionsExt as _;
            let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            let opened = File::options().write(true).custom_flags(flags).open(self.path("frames"));
            opened.map_err(|error| error.to_string())
        })
    }

    fn write(&self, bytes: &[u8]) {
        // What does not fit into the pipe is cut off, which is one more fault.
        let _ = self.writer().write(bytes);
    }

    /// Good frames until the rule is active and the line on.
    fn recover(&mut self) {
        let writer = self.writer();
        wait_for("the lamp", || {
            let _ = (&writer).write(&jpeg(90));
            let status = self.service.status();
            let works = status["lines"]["lamp"] == true && status["source"]["state"] == "streaming";
            works.then_some(()).ok_or(status.to_string())
        });
    }

    fn configure(&self, rule: &str, source: &str) {
        write_configuration(&self.workshop, self.port, rule, source);
    }

    /// SIGHUP, and waits until it was applied (0) or refused (1).
    fn reload(&mut self, outcome: usize) {
        self.service.signal("HUP");
        let name = ["reloads", "reloads_refused"][outcome];
        self.reloads[outcome] = wait_for(name, || {
            let status = self.service.status();
            status[name].as_u64().filter(|count| *count > self.reloads[outcome]).ok_or(status.to_string())
        });
    }

    fn bring_about(&mut self, fault: Fault) {
        match fault {
            Fault::Rubbish => self.write(&[0x55; 5000]),
            Fault::CutFrame => self.write(&[&jpeg(60)[..200], &jpeg(70)].concat()),
            Fault::DamagedFrame => {
                let mut damaged = jpeg(60);
                damaged[150..].iter_mut().for_each(|byte| *byte = 0);
                self.write(&damaged);
            }
            Fault::WriterGoes => self.write(&jpeg(60)[..300]),
            Fault::NoFrames => thread::sleep(Duration::from_millis(250)),
            Fault::BadConfiguration => {
                let text = fs::read_to_string(self.path("c.toml")).unwrap();
                fs::write(self.path("c.toml"), text.replace("0.9", "7")).unwrap();
                self.reload(1);
            }
            Fault::NoConfiguration => {
                fs::remove_file(self.path("c.toml")).unwrap();
                self.reload(1);
            }
            Fault::CutModel => {
                fs::write(self.path("m.tar"), &TINY_MODEL[..TINY_MODEL.len() / 2]).unwrap();
                self.reload(1);
                fs::write(self.path("m.tar"), TINY_MODEL).unwrap();
            }
            Fault::OtherRule => {
                let name = format!("rule{}", self.random.below(5));
                self.configure(&name, FIFO);
                self.reload(0);
            }
            Fault::NoCamera => {
                self.configure("any", "kind = \"camera\"\ndevice = \"/dev/no-such-camera\"");
                self.reload(0);
                wait_for("the loss", || {
                    let status = self.service.status();
                    (status["source"]["state"] == "lost").then_some(()).ok_or(status.to_string())
                });
            }
            Fault::BadClients => {
                let picture = http::request("GET", "/frame.jpg", "");
                for words in ["", "GET / HT", "\x16\x03\x01\r\n\r\n", &picture] {
                    let mut client = self.service.connect();
                    client.write_all(words.as_bytes()).unwrap();
                    self.clients.push(client);
                }
                let patient = self.clients.len().saturating_sub(6);
                self.clients.drain(..patient);
            }
            Fault::OtherPaths => {
                for path in ["/metrics", "/none"] {
                    self.service.get(path);
                }
            }
            Fault::ReaderGoes => drop(UnixStream::connect(self.path("events.sock")).unwrap()),
            Fault::BrokerGoes => drop(self.broker.take()),
            Fault::NoFolder => self.put_a_file_where_the_folder_should_be(),
            Fault::NoInput => {
                fs::remove_file(self.path("key")).unwrap();
                wait_for("the loss", || {
                    let status = self.service.status();
                    status["inputs"]["key"].is_null().then_some(()).ok_or(status.to_string())
                });
            }
            Fault::OtherSource => {
                let other = format!("{FIFO}\n[image]\nrotate = 90\n[safety]\nstale_ms = 210");
                self.configure("any", &other);
                self.reload(0);
            }
            Fault::Reloads => self.reload_several_times_at_once(),
        }
    }

    fn put_a_file_where_the_folder_should_be(&mut self) {
        // A file where the folder should be; the service makes the folder again and again.
        wait_for("the file", || {
            let _ = fs::remove_dir_all(self.path("shots"));
            fs::write(self.path("shots"), "").map_err(|error| error.to_string())
        });
        self.recover();
        thread::sleep(Duration::from_millis(250));
        self.recover();
        fs::remove_file(self.path("shots")).unwrap();
    }

    fn reload_several_times_at_once(&mut self) {
        // How many of them count depends on when they come.
        for _ in 0..3 {
            self.service.signal("HUP");
        }
        let count = || self.service.status()["reloads"].as_u64().unwrap();
        let before = self.reloads[0];
        self.reloads[0] = wait_for("the last reload", || {
            let now = count();
            thread::sleep(Duration::from_millis(500));
            let later = count();
            (now == later && now > before).then_some(now).ok_or(format!("{now}, {later}"))
        });
    }

    /// Everything as it should be again.
    fn repair(&mut self) {
        set_input(&self.workshop, "1");
        if self.broker.is_none() {
            self.broker = Some(Broker::start(self.port, None));
        }
        self.configure("any", FIFO);
        self.reload(0);
        self.recover();
    }

    fn held(&mut self) -> Held {
        self.clients.clear();
        self.repair();
        wait_for("the broker", || {
            let status = self.service.status();
            (status["mqtt_connected"] == 1).then_some(()).ok_or(status.to_string())
        });
        let id = self.service.child.id();
        let count = |folder: &str| fs::read_dir(format!("/proc/{id}/{folder}")).unwrap().count();
        // Clients over HTTP that said nothing have up to 5 s.
        let quiet = wait_for("quiet", || {
            let now = (count("fd"), count("task"));
            thread::sleep(Duration::from_millis(1500));
            let later = (count("fd"), count("task"));
            let clients = self.service.status()["http_connections"] != 1;
            if now == later && !clients { Ok(now) } else { Err(format!("{now:?}, {later:?}")) }
        });
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Held { files: quiet.0, threads: quiet.1, memory }
    }
}

const FIFO: &str = "kind = \"mjpeg\"\npath = \"frames\"";

fn write_configuration(workshop: &Workshop, port: u16, rule: &str, source: &str) {
    let rules = format!(
        "[[input]]\nname = \"key\"\nbackend = \"file\"\npath = \"key\"\n{}armed_by = \"key\"\n",
        ALWAYS.replace("any", rule)
    );
    workshop.configure(source, &rules);
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let text = if source.contains("stale_ms") {
        text.replace("[safety]\nstale_ms = 400\n", "")
    } else {
        text.replace("stale_ms = 400", "stale_ms = 200")
    };
    let output = format!(
        "socket = \"events.sock\"\n[output.snapshots]\nfolder = \"shots\"\nmax_mb = 1\n\
         [output.mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nhome_assistant = true\n[[line]]"
    );
    fs::write(workshop.path("c.toml"), text.replacen("[[line]]", &output, 1)).unwrap();
}

#[test]
fn faults_without_end_grow_nothing() {
    let faults = std::env::var("RESIGHT_FAULTS").map_or(FAULTS, |count| count.parse().unwrap());
    assert!(faults > WARM, "RESIGHT_FAULTS must be above {WARM}");
    let mut scene = Scene::start();
    scene.recover();
    let start = Instant::now();
    let mut before = None;
    for count in 0..faults {
        if count == WARM {
            before = Some(scene.held());
        }
        // Each once, then in any order.
        let index = if count < Fault::ALL.len() { count } else { scene.random.below(Fault::ALL.len()) };
        let fault = Fault::ALL[index];
        scene.bring_about(fault);
        if fault.lasts() {
            scene.repair();
        } else {
            scene.recover();
        }
    }
    let (before, after) = (before.unwrap(), scene.held());
    let status = scene.service.status();
    println!("{faults} faults in {:.0} s: {before:?}, then {after:?}", start.elapsed().as_secs_f64());
    println!("{status}");
    assert!(after.files <= before.files && after.threads <= before.threads, "{before:?}, then {after:?}");
    assert!(after.memory <= before.memory + 2048, "{before:?}, then {after:?}");
    assert_eq!(status["inference_errors"], 0);
    scene.service.signal("TERM");
    assert!(scene.service.finish());
}
