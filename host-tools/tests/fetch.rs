//! Downloads from servers on loopback that misbehave in every way that was thought of.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use resight::fetch::recipe::NetworkFile;
use resight::fetch::{Event, FetchError, Outcome, Settings, download};
use resight_fixtures::Random;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What a client asked for.
#[derive(Debug, Clone)]
struct Request {
    /// `GET` or `CONNECT`.
    method: String,
    /// The path, or for `CONNECT` host and port.
    target: String,
    /// By lower-case name.
    headers: HashMap<String, String>,
}

impl Request {
    fn read(stream: &mut (impl Read + ?Sized)) -> io::Result<Self> {
        // Byte by byte: a tunnel's bytes follow.
        let mut head = vec![];
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let mut lines = BufReader::new(&head[..]).lines().map_while(Result::ok);
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        });
        Ok(Self { method, target, headers: headers.collect() })
    }

    fn range(&self) -> Option<&str> {
        self.headers.get("range").map(String::as_str)
    }

    /// First byte asked for.
    fn from(&self) -> usize {
        self.range()
            .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
    }
}

/// Anything that a connection runs over.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

type Answer = dyn Fn(usize, &Request, &mut dyn Stream) -> io::Result<()> + Send + Sync;

/// A server that answers the requests, counted from 0, with a function; one for each connection.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn start(
        answer: impl Fn(usize, &Request, &mut dyn Stream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(None, Arc::new(answer))
    }

    fn start_on(tls: Option<Arc<rustls::ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(vec![]));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (requests.clone(), stop.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (log, answer, tls) = (log.clone(), answer.clone(), tls.clone());
                thread::spawn(move || -> io::Result<()> {
                    let stream = stream?;
                    let serve = |stream: &mut dyn Stream| {
                        let request = Request::read(&mut *stream)?;
                        let index = {
                            let mut log = log.lock().unwrap();
                            log.push(request.clone());
                            log.len() - 1
                        };
                        // A client that hangs up is the client's affair.
                        answer(index, &request, stream)
                    };
                    match tls {
                        None => serve(&mut &stream),
                        Some(tls) => {
                            let connection = rustls::ServerConnection::new(tls).map_err(io::Error::other)?;
                            let mut stream = rustls::StreamOwned::new(connection, stream);
                            serve(&mut stream)?;
                            stream.conn.send_close_notify();
                            stream.flush()
                        }
                    }
                });
            }
        });
        Self { address, requests, stop }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.requests().iter().map(|request| request.range().map(str::to_owned)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Status line and headers.
fn head(stream: &mut dyn Stream, status: &str, headers: &[(&str, &str)]) -> io::Result<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

/// A page of text instead of a file.
fn page(stream: &mut dyn Stream, status: &str, headers: &[(&str, &str)], text: &str) -> io::Result<()> {
    let length = text.len().to_string();
    head(stream, status, &[headers, &[("Content-Length", length.as_str())]].concat())?;
    stream.write_all(text.as_bytes())
}

/// A well-behaved answer, of which at most `most` bytes come before the connection ends.
fn file(
    content: &[u8],
    etag: &str,
    most: usize,
    request: &Request,
    stream: &mut dyn Stream,
) -> io::Result<()> {
    let current = request.headers.get("if-range").is_none_or(|known| known == etag);
    let from = if current { request.from() } else { 0 };
    let rest = &content[from..];
    let length = rest.len().to_string();
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    let mut headers = vec![("Content-Length", length.as_str()), ("ETag", etag)];
    if from > 0 {
        headers.push(("Content-Range", range.as_str()));
    }
    head(stream, if from > 0 { "206 Partial Content" } else { "200 OK" }, &headers)?;
    stream.write_all(&rest[..rest.len().min(most)])
}

fn redirect(stream: &mut dyn Stream, to: &str) -> io::Result<()> {
    page(stream, "302 Found", &[("Location", to)], "elsewhere")
}

const SIZE: usize = 300_000;

/// Bytes without a pattern, another sequence for each seed.
fn bytes(seed: u64) -> Vec<u8> {
    Random::new(seed).bytes(SIZE)
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder to download into, and the file that is wanted.
struct Place {
    folder: TempDir,
    content: Vec<u8>,
    network: NetworkFile,
    events: Vec<String>,
}

impl Place {
    fn new() -> Self {
        let content = bytes(1);
        let network = NetworkFile {
            file: "net.onnx".into(),
            bytes: SIZE as u64,
            sha256: sha256(&content),
            urls: vec!["https://unused.invalid/net.onnx".into()],
        };
        Self { folder: tempfile::tempdir().unwrap(), content, network, events: vec![] }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn fetch(&mut self, sources: &[String]) -> Result<Outcome, FetchError> {
        let settings = Settings {
            stall: Duration::from_millis(300),
            connect: Duration::from_secs(5),
            attempts: 3,
            backoff: Duration::from_millis(1),
            proxy: None,
        };
        let limit = self.network.bytes;
        let events = &mut self.events;
        download(&self.network, sources, self.folder.path(), &settings, &mut |event| match event {
            Event::Progress(bytes) => assert!(bytes <= limit),
            other => events.push(format!("{other:?}")),
        })
    }

    /// Fetches, and finds the right file under its name and nothing else.
    fn ok(&mut self, sources: &[String]) -> Outcome {
        let outcome = self.fetch(sources).unwrap();
        assert_eq!(self.files(), ["net.onnx"]);
        assert!(fs::read(self.path("net.onnx")).unwrap() == self.content);
        outcome
    }

    /// Fails with one line that holds every word; gives it.
    fn fails(&mut self, sources: &[String], words: &[&str]) -> String {
        let error = self.fetch(sources).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "`{word}` is not in: {error}");
        }
        assert!(!self.path("net.onnx").exists(), "{error}");
        error
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A server that has the right file.
    fn good(&self) -> Server {
        let content = self.content.clone();
        Server::start(move |_, request, stream| file(&content, "\"1\"", SIZE, request, stream))
    }
}

#[test]
fn a_file_comes_once_and_is_left_alone_afterwards() {
    let mut place = Place::new();
    let server = place.good();
    let url = server.url("/a/net.onnx?token=secret");
    let shown = server.url("/a/net.onnx");
    assert_eq!(place.ok(slice::from_ref(&url)), Outcome::Fetched { url: shown });
    assert!(place.events.iter().all(|event| !event.contains("secret")), "{:?}", place.events);
    assert_eq!(place.ok(&[url]), Outcome::AlreadyThere);
    let requests = server.requests();
    let [request] = &requests[..] else { panic!("one request is enough") };
    assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/a/net.onnx?token=secret"));
    assert_eq!(request.headers["user-agent"], concat!("resight/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.range(), None);
}

#[test]
fn a_connection_that_ends_in_the_middle_is_continued() {
    let mut place = Place::new();
    let content = place.content.clone();
    // More cuts than there are attempts: each brings something.
    let server = Server::start(move |_, request, stream| file(&content, "\"7\"", 50_000, request, stream));
    place.ok(&[server.url("/net.onnx")]);
    let requests = server.requests();
    let from: Vec<usize> = requests.iter().map(Request::from).collect();
    assert_eq!(from, [0, 50_000, 100_000, 150_000, 200_000, 250_000]);
    assert!(requests[1..].iter().all(|request| request.headers["if-range"] == "\"7\""));
}

#[test]
fn tries_that_bring_nothing_are_bounded_and_what_came_is_kept() {
    let mut place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |index, request, stream| {
        file(&content, "\"7\"", if index == 0 { 100_000 } else { 10 }, request, stream)
    });
    let url = server.url("/net.onnx");
    let error = place.fails(slice::from_ref(&url), &[&url, "bytes are kept for the next try", "--mirror"]);
    assert!(error.contains("of 300000 bytes are kept"), "{error}");
    assert_eq!(server.requests().len(), 3);
    assert_eq!(place.files(), ["net.onnx.part"]);
    drop(server);
    let server = place.good();
    place.ok(&[server.url("/net.onnx")]);
    assert_eq!(server.ranges(), [Some("bytes=100020-".into())]);
}

#[test]
fn what_an_earlier_run_left_is_continued_or_taken_or_dropped() {
    for (left, range) in [
        (bytes(1)[..1000].to_vec(), Some("bytes=1000-")),
        (vec![], None),
        // Too long, or long enough and wrong.
        ([bytes(1), vec![0]].concat(), None),
        (bytes(2), None),
    ] {
        let mut place = Place::new();
        let server = place.good();
        fs::write(place.path("net.onnx.part"), left).unwrap();
        assert!(matches!(place.ok(&[server.url("/net.onnx")]), Outcome::Fetched { .. }));
        assert_eq!(server.ranges(), [range.map(str::to_owned)]);
    }
    let mut place = Place::new();
    let server = place.good();
    fs::write(place.path("net.onnx.part"), &place.content).unwrap();
    assert_eq!(place.ok(&[server.url("/net.onnx")]), Outcome::WasComplete);
    assert!(server.requests().is_empty());
}

#[test]
fn a_left_over_of_another_file_costs_one_more_try() {
    let mut place = Place::new();
    let server = place.good();
    fs::write(place.path("net.onnx.part"), &bytes(2)[..1000]).unwrap();
    place.ok(&[server.url("/net.onnx")]);
    assert_eq!(server.ranges(), [Some("bytes=1000-".into()), None]);
}

#[test]
fn a_file_that_changes_between_two_tries_comes_whole() {
    // With an entity tag, the server sees it; without, the checksum does.
    for etags in [["\"old\"", "\"new\""], ["W/\"old\"", "W/\"new\""]] {
        let mut place = Place::new();
        let content = place.content.clone();
        let server = Server::start(move |index, request, stream| match index {
            0 => file(&bytes(2), etags[0], 100_000, request, stream),
            _ => file(&content, etags[1], SIZE, request, stream),
        });
        place.ok(&[server.url("/net.onnx")]);
        let strong = etags[0].starts_with('"');
        let known: Vec<_> =
            server.requests().iter().map(|request| request.headers.get("if-range").cloned()).collect();
        assert_eq!(known[..2], [None, strong.then(|| etags[0].to_owned())]);
        assert_eq!(known.len(), if strong { 2 } else { 3 });
    }
}

#[test]
fn servers_without_ranges_send_the_whole_file() {
    type Refuse = fn(&[u8], &Request, &mut dyn Stream) -> io::Result<()>;
    let ignores: Refuse = |content, request, stream| {
        let whole = Request { headers: HashMap::new(), ..request.clone() };
        file(content, "\"1\"", SIZE, &whole, stream)
    };
    let refuses: Refuse = |content, request, stream| match request.range() {
        Some(_) => page(stream, "416 Range Not Satisfiable", &[], ""),
        None => file(content, "\"1\"", SIZE, request, stream),
    };
    for (answer, requests) in [(ignores, 1), (refuses, 2)] {
        let mut place = Place::new();
        fs::write(place.path("net.onnx.part"), &place.content[..1000]).unwrap();
        let content = place.content.clone();
        let server = Server::start(move |_, request, stream| answer(&content, request, stream));
        place.ok(&[server.url("/net.onnx")]);
        assert_eq!(server.requests().len(), requests);
    }
}

#[test]
fn a_corrupted_file_is_thrown_away_and_the_next_mirror_is_asked() {
    let mut place = Place::new();
    let mut wrong = place.content.clone();
    wrong[SIZE / 2] ^= 1;
    let digest = sha256(&wrong);
    let bad = Server::start(move |_, request, stream| file(&wrong, "\"1\"", SIZE, request, stream));
    let url = bad.url("/net.onnx");
    let right = place.network.sha256.clone();
    place.fails(slice::from_ref(&url), &[&url, &digest, &right]);
    assert!(place.files().is_empty());
    assert_eq!(bad.requests().len(), 1, "the whole file came, and would come again");
    let good = place.good();
    place.ok(&[url, good.url("/net.onnx")]);
    assert_eq!(good.ranges(), [None]);
}

#[test]
fn redirects_are_followed_across_hosts_but_not_for_ever() {
    let mut place = Place::new();
    let good = place.good();
    let target = good.url("/blob/1?signature=secret");
    let first = Server::start(move |_, request, stream| match request.target.as_str() {
        "/net.onnx" => redirect(stream, "/moved"),
        "/moved" => redirect(stream, &target),
        _ => redirect(stream, "/loop"),
    });
    let url = first.url("/net.onnx");
    fs::write(place.path("net.onnx.part"), &place.content[..1000]).unwrap();
    assert_eq!(place.ok(slice::from_ref(&url)), Outcome::Fetched { url });
    assert_eq!(good.ranges(), [Some("bytes=1000-".into())], "the range goes along");

    let mut place = Place::new();
    let looping = first.url("/loop");
    place.fails(slice::from_ref(&looping), &[&looping, "redirects more than 10 times"]);
    let before = first.requests().len();
    place.ok(&[looping, good.url("/net.onnx")]);
    assert!(first.requests().len() - before <= 12);

    // Two servers that send each other the client.
    let other = Arc::new(Mutex::new(String::new()));
    let back = other.clone();
    let one = Server::start(move |_, _, stream| redirect(stream, &back.lock().unwrap()));
    let there = one.url("/");
    let two = Server::start(move |_, _, stream| redirect(stream, &there));
    *other.lock().unwrap() = two.url("/");
    Place::new().fails(&[one.url("/")], &["redirects more than 10 times"]);
    assert!(one.requests().len() + two.requests().len() <= 12);
}

#[test]
fn silence_and_a_trickle_are_stalls() {
    let mut place = Place::new();
    let content = place.content.clone();
    let silent = Server::start(move |index, request, stream| {
        file(&content, "\"1\"", if index == 0 { 200_000 } else { SIZE }, request, stream)?;
        if index == 0 {
            thread::sleep(Duration::from_secs(5));
        }
        Ok(())
    });
    let start = Instant::now();
    place.ok(&[silent.url("/net.onnx")]);
    assert!(start.elapsed() < Duration::from_secs(4), "the server was waited for");
    assert_eq!(silent.ranges(), [None, Some("bytes=200000-".into())]);
    assert!(place.events.iter().any(|event| event.contains("nothing came for 300ms")), "{:?}", place.events);

    let mute = Server::start(|_, _, _| {
        thread::sleep(Duration::from_secs(5));
        Ok(())
    });
    let mut place = Place::new();
    let content = place.content.clone();
    let trickle = Server::start(move |_, request, stream| {
        file(&content, "\"1\"", 0, request, stream)?;
        for byte in &content[request.from()..] {
            stream.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    let start = Instant::now();
    place.fails(
        &[mute.url("/net.onnx"), trickle.url("/net.onnx")],
        &["nothing came for 300ms (3 times); http", "less than 1024 bytes came in 300ms (3 times)"],
    );
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_server_that_lies_about_the_length_is_left_at_once() {
    for length in [SIZE - 1, SIZE + 1, 0, usize::MAX] {
        let mut place = Place::new();
        fs::write(place.path("net.onnx.part"), &place.content[..1000]).unwrap();
        let content = place.content.clone();
        let server = Server::start(move |_, _, stream| {
            head(stream, "200 OK", &[("Content-Length", length.to_string().as_str())])?;
            stream.write_all(&content)
        });
        place.fails(&[server.url("/net.onnx")], &[&format!("its file has {length} bytes, not {SIZE}")]);
        assert_eq!(server.requests().len(), 1);
        assert_eq!(fs::metadata(place.path("net.onnx.part")).unwrap().len(), 1000, "what was there is kept");
    }
}

#[test]
fn a_server_that_sends_another_range_is_left_at_once() {
    for (range, word) in [
        ("bytes 999-299999/300000", "another part"),
        ("bytes 0-299999/300000", "another part"),
        ("nonsense", "another part"),
        ("bytes 1000-399999/400000", "400000 bytes"),
    ] {
        let mut place = Place::new();
        fs::write(place.path("net.onnx.part"), &place.content[..1000]).unwrap();
        let content = place.content.clone();
        let server = Server::start(move |_, _, stream| {
            head(stream, "206 Partial Content", &[("Content-Range", range)])?;
            stream.write_all(&content[1000..])
        });
        place.fails(&[server.url("/net.onnx")], &[word]);
        assert_eq!(server.requests().len(), 1);
        assert_eq!(fs::metadata(place.path("net.onnx.part")).unwrap().len(), 1000);
    }
}

#[test]
fn no_more_is_written_than_the_recipe_says() {
    // Without a length, the end of the connection is the end of the file: here it never comes.
    let endless = |content: Vec<u8>| {
        Server::start(move |_, _, stream| {
            head(stream, "200 OK", &[])?;
            stream.write_all(&content)?;
            loop {
                stream.write_all(&content)?;
            }
        })
    };
    let mut place = Place::new();
    let server = endless(bytes(2));
    place.fails(&[server.url("/net.onnx")], &["sha256"]);
    assert!(place.files().is_empty());
    // What follows the right bytes does not matter.
    let server = endless(place.content.clone());
    place.ok(&[server.url("/net.onnx")]);
}

#[test]
fn errors_that_pass_are_tried_again_and_others_are_not() {
    for (status, tries) in [
        ("404 Not Found", 1),
        ("403 Forbidden", 1),
        ("204 No Content", 1),
        ("500 Internal Server Error", 3),
        ("503 Service Unavailable", 3),
        ("429 Too Many Requests", 3),
    ] {
        let mut place = Place::new();
        let server = Server::start(move |_, _, stream| page(stream, status, &[("Retry-After", "0")], ""));
        let good = place.good();
        let url = server.url("/net.onnx");
        assert_eq!(
            place.ok(&[url.clone(), good.url("/net.onnx")]),
            Outcome::Fetched { url: good.url("/net.onnx") }
        );
        assert_eq!(server.requests().len(), tries, "{status}");
        let given_up = place.events.iter().find(|event| event.starts_with("GivenUp")).unwrap();
        assert!(given_up.contains(&url) && given_up.contains(status), "{given_up}");
    }
}

#[test]
fn a_server_that_recovers_is_waited_for() {
    let mut place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |index, request, stream| match index {
        0 => page(stream, "503 Service Unavailable", &[("Retry-After", "1")], ""),
        _ => file(&content, "\"1\"", SIZE, request, stream),
    });
    let start = Instant::now();
    place.ok(&[server.url("/net.onnx")]);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_web_page_is_not_taken_for_the_file() {
    let mut place = Place::new();
    fs::write(place.path("net.onnx.part"), &place.content[..1000]).unwrap();
    let portal = Server::start(|_, _, stream| {
        head(stream, "200 OK", &[("Content-Type", "text/html; charset=utf-8")])?;
        stream.write_all(b"<html>Please log in")
    });
    place.fails(&[portal.url("/net.onnx")], &["web page", "text/html"]);
    assert_eq!(fs::metadata(place.path("net.onnx.part")).unwrap().len(), 1000);
}

#[test]
fn rubbish_and_closed_ports_are_errors() {
    let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let rubbish = Server::start(|_, _, stream| stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"));
    let hangs_up = Server::start(|_, _, _| Ok(()));
    let long = Server::start(|_, _, stream| {
        let value = "x".repeat(1 << 16);
        for _ in 0..64 {
            head(stream, "200 OK", &[("X", value.as_str())])?;
        }
        Ok(())
    });
    let mut place = Place::new();
    let sources =
        [format!("http://{closed}/"), rubbish.url("/"), hangs_up.url("/"), long.url("/"), "http://".into()];
    let error = place.fails(&sources, &["Connection refused"]);
    for url in &sources {
        assert!(error.contains(url), "{url}: {error}");
    }
    assert!(place.files().is_empty());
    place.fails(&[], &["could not be fetched"]);
}

#[test]
fn other_files_and_other_processes_are_left_alone() {
    let mut place = Place::new();
    let server = place.good();
    let url = [server.url("/net.onnx")];
    for content in [b"mine".to_vec(), bytes(2)] {
        fs::write(place.path("net.onnx"), &content).unwrap();
        let error = place.fetch(&url).unwrap_err().to_string();
        assert!(error.contains("another file is there") && error.contains("--output"), "{error}");
        assert!(fs::read(place.path("net.onnx")).unwrap() == content);
    }
    fs::remove_file(place.path("net.onnx")).unwrap();
    fs::create_dir(place.path("net.onnx")).unwrap();
    assert!(place.fetch(&url).unwrap_err().to_string().contains("not a regular file"));
    fs::remove_dir(place.path("net.onnx")).unwrap();

    let other = fs::File::create(place.path("net.onnx.part")).unwrap();
    other.lock().unwrap();
    place.fails(&url, &["net.onnx.part", "another `resight fetch`"]);
    drop(other);

    fs::remove_file(place.path("net.onnx.part")).unwrap();
    fs::create_dir(place.path("net.onnx.part")).unwrap();
    place.fails(&url, &["net.onnx.part"]);
    assert!(server.requests().is_empty());
}

/// A folder in which `resight fetch` runs, with a recipe for the file of a [`Place`].
struct Desk(Place);

impl Desk {
    fn new(url: &str) -> Self {
        let desk = Self(Place::new());
        desk.write_recipe(url, "crop = [224, 224]\nresize_shorter = 256");
        fs::write(desk.0.path("labels.txt"), "cat\ndog\n").unwrap();
        fs::write(desk.0.path("labels.LICENSE"), "free\n").unwrap();
        desk
    }

    fn write_recipe(&self, url: &str, input: &str) {
        let NetworkFile { file, bytes, sha256, .. } = &self.0.network;
        let text = format!(
            "name = \"net\"\ndescription = \"a test\"\npage = \"https://unused.invalid/\"\nlicence = \"MIT\"\n\
             [network]\nfile = \"{file}\"\nbytes = {bytes}\nsha256 = \"{sha256}\"\nurls = [\"{url}\"]\n\
             [labels]\nfile = \"labels.txt\"\nnotice = \"labels.LICENSE\"\n\
             [preprocessing]\n{input}\nmean = [0.485, 0.456, 0.406]\n\
             standard_deviation = [0.229, 0.224, 0.225]\n"
        );
        fs::write(self.0.path("net.toml"), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_resight"));
        command.args(arguments).current_dir(self.0.folder.path());
        for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_ascii_lowercase());
        }
        for name in ["RUST_LOG", "RESIGHT_ISA", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The last line of standard error of a command that failed as it should.
fn failed(output: Output) -> String {
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    error.lines().last().unwrap().to_owned()
}

#[test]
fn the_command_lists_its_recipes() {
    let desk = Desk::new("https://unused.invalid/net.onnx");
    assert_eq!(
        ok(desk.run(&["fetch", "--list"])),
        "\
recipe              size  top-1 / 5, %  licence     network
resnet18-v1-7    46.8 MB   69.9 / 89.3  Apache-2.0  ResNet-18 v1, 1000 ImageNet classes, ONNX model zoo
resnet34-v1-7    87.3 MB   73.7 / 91.4  Apache-2.0  ResNet-34 v1, 1000 ImageNet classes, ONNX model zoo
resnet50-v1-12  102.6 MB   75.0 / 92.3  Apache-2.0  ResNet-50 v1, 1000 ImageNet classes, ONNX model zoo
resnet101-v1-7  178.9 MB   76.5 / 93.2  Apache-2.0  ResNet-101 v1, 1000 ImageNet classes, ONNX model zoo
"
    );
    let list: serde_json::Value =
        serde_json::from_str(&ok(desk.run(&["fetch", "--list", "--json"]))).unwrap();
    assert_eq!(list[2]["bytes"], 102_576_593);
    assert_eq!(list[2]["sha256"], "3f03fdef724b22947eed826f1eef1dc5c34151bb4c37d634f1db89dfa2dd1526");
    assert_eq!(list[3]["bytes"], 178_914_043);
    assert_eq!(list[3]["sha256"], "760702f6ec0138f71ebac66f4e95d1c72dc9267a8544f4d4667a53075fd0497c");
    for arguments in [&["fetch"][..], &["fetch", "net.toml", "--list"], &["fetch", "--mirror"]] {
        assert_eq!(desk.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    let error = failed(desk.run(&["fetch", "resnet50"]));
    assert!(error.contains("no such recipe") && error.contains("resnet50-v1-12"), "{error}");
    assert!(failed(desk.run(&["fetch", "nowhere.toml"])).contains("nowhere.toml"));
    assert!(failed(desk.run(&["fetch", "net.toml", "--mirror", "ftp://x/"])).contains("--mirror ftp://x/"));
}

/// From a recipe to a model that classifies: the command that `fetch` prints is run as it stands.
#[test]
fn what_the_command_says_comes_next_works() {
    let mut desk = Desk::new("https://unused.invalid/net.onnx");
    let folder = desk.0.folder.path().to_owned();
    ok(desk.run(&["synth", "tiny-bottleneck", "-o", "source.onnx", "--seed", "3"]));
    let content = fs::read(folder.join("source.onnx")).unwrap();
    desk.0.network.bytes = content.len() as u64;
    desk.0.network.sha256 = sha256(&content);
    desk.write_recipe("https://unused.invalid/net.onnx", "crop = [32, 32]\nresize_shorter = 32");
    let names: String = (0..10).map(|class| format!("thing {class}\n")).collect();
    fs::write(folder.join("labels.txt"), names).unwrap();
    let server =
        Server::start(move |_, request, stream| file(&content, "\"1\"", usize::MAX, request, stream));

    let mirror = server.url("/mirror/");
    let arguments = ["fetch", "net.toml", "--output", "my networks", "--mirror", &mirror];
    let output = desk.run(&arguments);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains(&format!("{mirror}net.onnx")), "{log}");
    let shown = ok(output);
    assert_eq!(server.requests()[0].target, "/mirror/net.onnx");
    assert!(shown.contains("its sha256 is the recipe's") && shown.contains("licence MIT"), "{shown}");
    for name in ["labels.txt", "labels.LICENSE"] {
        assert_eq!(
            fs::read(folder.join("my networks").join(name)).unwrap(),
            fs::read(folder.join(name)).unwrap()
        );
    }

    fs::create_dir(folder.join("photos")).unwrap();
    for index in 0..4u32 {
        let picture = image::RgbImage::from_fn(40, 40, |x, y| {
            image::Rgb([x * 5, y * 6, (x + y) * index].map(|v| v as u8))
        });
        picture.save(folder.join(format!("photos/{index}.png"))).unwrap();
    }
    let next = shown.lines().last().unwrap().trim();
    let binaries = Path::new(env!("CARGO_BIN_EXE_resight")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
    let quantise =
        Command::new("sh").args(["-c", next]).current_dir(&folder).env("PATH", path).output().unwrap();
    assert!(ok(quantise).contains("net.resight.tar"));
    ok(desk.run(&["classify", "my networks/net.resight.tar", "photos/1.png"]));

    // Again: no request, nothing written; as JSON this time.
    let again: serde_json::Value =
        serde_json::from_str(&ok(desk.run(&[&arguments[..], &["--json"]].concat()))).unwrap();
    assert_eq!(again["next"][2], "my networks/net.onnx");
    assert_eq!((again["already_there"].as_bool(), again["source"].is_null()), (Some(true), true));
    assert_eq!(server.requests().len(), 1);

    // Labels of somebody else are found before anything is downloaded.
    fs::remove_file(folder.join("my networks/net.onnx")).unwrap();
    fs::write(folder.join("my networks/labels.txt"), "mine").unwrap();
    assert!(failed(desk.run(&arguments)).contains("another file is there"));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_killed_command_continues_where_it_was() {
    let desk = Desk::new("https://unused.invalid/net.onnx");
    let content = desk.0.content.clone();
    let server = Server::start(move |index, request, stream| {
        file(&content, "\"1\"", if index == 0 { 200_000 } else { SIZE }, request, stream)?;
        if index == 0 {
            thread::sleep(Duration::from_secs(20));
        }
        Ok(())
    });
    let url = server.url("/net.onnx");
    let arguments = ["fetch", "net.toml", "--output", "out", "--mirror", &url];
    let mut child = desk.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let part = desk.0.path("out/net.onnx.part");
    let start = Instant::now();
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 200_000 {
        assert!(start.elapsed() < Duration::from_secs(15), "the first part never came");
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    ok(desk.run(&arguments));
    assert_eq!(server.ranges(), [None, Some("bytes=200000-".into())]);
    assert!(fs::read(desk.0.path("out/net.onnx")).unwrap() == desk.0.content);
}

/// A server with a certificate for `host` that no one trusts, and the certificate as PEM.
fn https(host: &str, answer: Arc<Answer>) -> (Server, String) {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Server::start_on(Some(Arc::new(config)), answer), made.cert.pem())
}

#[test]
fn https_needs_a_certificate_and_never_becomes_http() {
    let content = bytes(1);
    let plain = Server::start(|_, request, stream| file(&bytes(1), "\"1\"", SIZE, request, stream));
    let to_plain = plain.url("/net.onnx?signature=secret");
    let (server, certificate) = https(
        "localhost",
        Arc::new(move |_, request: &Request, stream: &mut dyn Stream| match request.target.as_str() {
            "/net.onnx" => file(&content, "\"1\"", SIZE, request, stream),
            _ => redirect(stream, &to_plain),
        }),
    );
    let url = format!("https://localhost:{}/net.onnx", server.address.port());
    let desk = Desk::new(&url);
    let arguments = ["fetch", "net.toml", "--output", "out"];
    let error = failed(desk.run(&arguments));
    assert!(error.contains(&url) && error.contains("TLS") && error.contains("SSL_CERT_FILE"), "{error}");
    assert!(server.requests().is_empty());

    fs::write(desk.0.path("ca.pem"), certificate).unwrap();
    let trusting =
        |arguments: &[&str]| desk.command(arguments).env("SSL_CERT_FILE", "ca.pem").output().unwrap();
    desk.write_recipe(&url.replace("net.onnx", "moved/net.onnx"), "crop = [224, 224]\nresize_shorter = 256");
    let error = failed(trusting(&arguments));
    assert!(error.contains("not https") && !error.contains("secret"), "{error}");
    assert!(plain.requests().is_empty());

    desk.write_recipe(&url, "crop = [224, 224]\nresize_shorter = 256");
    let shown = ok(trusting(&arguments));
    assert!(shown.contains(&format!("from {url}")), "{shown}");
    assert!(fs::read(desk.0.path("out/net.onnx")).unwrap() == desk.0.content);
}

#[test]
fn the_environments_proxy_is_used() {
    let content = bytes(1);
    let (server, certificate) = https(
        "models.invalid",
        Arc::new(move |_, request: &Request, stream: &mut dyn Stream| {
            file(&content, "\"1\"", SIZE, request, stream)
        }),
    );
    let target = server.address;
    // Bytes go to and fro until one side hangs up.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        tell.send(Request::read(&mut client).unwrap()).unwrap();
        let mut upstream = TcpStream::connect(target).unwrap();
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut from, &mut to));
        let _ = io::copy(&mut upstream, &mut client);
    });
    let desk = Desk::new("https://models.invalid/net.onnx");
    fs::write(desk.0.path("ca.pem"), certificate).unwrap();
    let mut command = desk.command(&["fetch", "net.toml", "--output", "out"]);
    ok(command.env("SSL_CERT_FILE", "ca.pem").env("HTTPS_PROXY", proxy).output().unwrap());
    let request = told.recv().unwrap();
    assert_eq!((request.method.as_str(), request.target.as_str()), ("CONNECT", "models.invalid:443"));
    assert!(fs::read(desk.0.path("out/net.onnx")).unwrap() == desk.0.content);
}
