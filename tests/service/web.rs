//! The HTTP server: encryption, who is answered, and what is refused.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use resight_fixtures::http;
use rustix::net::sockopt;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::harness::*;

const JSON: &str = "Content-Type: application/json\r\n";

/// Logs in; gives the code and the header of the answer.
fn log_in(service: &Service, fields: &str, secret: &str) -> (u16, String) {
    let body = format!("{{\"secret\": \"{secret}\"}}");
    let fields = format!("{JSON}{fields}Content-Length: {}\r\n", body.len());
    let (code, head, _) = service.ask(0, &(http::request("POST", "/session", &fields) + &body));
    (code, head)
}

/// The value of a field of a header.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn hash(workshop: &Workshop, password: &str) -> String {
    let mut child =
        workshop.command(&["password"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_session_needs_the_secret_once_and_ends_when_it_is_ended() {
    let workshop = workshop("http = \"127.0.0.1:0\"\ntoken_file = \"token\"\npassword_file = \"password\"");
    fs::write(workshop.path("token"), "0123456789abcdef").unwrap();
    fs::write(workshop.path("password"), hash(&workshop, "correct horse")).unwrap();
    let service = workshop.start();
    service.expect_log("ready", 0);
    assert_eq!(log_in(&service, "", "wrong horse").0, 401);
    assert_eq!(log_in(&service, "Origin: http://evil.example\r\n", "correct horse").0, 403);
    assert_eq!(log_in(&service, "Sec-Fetch-Site: same-site\r\n", "correct horse").0, 403);
    for secret in ["correct horse", "0123456789abcdef"] {
        let (code, head) = log_in(&service, "Sec-Fetch-Site: same-origin\r\n", secret);
        assert_eq!(code, 200, "{head}");
        let cookie = field(&head, "Set-Cookie").unwrap();
        for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=86400"] {
            assert!(cookie.split("; ").any(|other| other == part), "{part}: {cookie}");
        }
        assert!(!cookie.contains("Secure") && !cookie.contains(secret), "{cookie}");
        let shown = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
        for path in ["/status", "/metrics", "/frame.jpg"] {
            assert_eq!(service.code(path, &shown), 200, "{path}");
        }
        let body = "{\"dry_run\": false}";
        let switch = |fields: &str| {
            let fields = format!("{JSON}{shown}{fields}Content-Length: {}\r\n", body.len());
            service.ask(0, &(http::request("POST", "/switches", &fields) + body)).0
        };
        assert_eq!(switch("Sec-Fetch-Site: same-origin\r\n"), 200);
        // A cookie goes along with what a page on another port of this host asks for.
        assert_eq!(switch("Sec-Fetch-Site: same-site\r\n"), 403);
        assert_eq!(service.code("/status", "Cookie: resight_=0000\r\n"), 401);
        let (code, head, _) = service.ask(0, &http::request("DELETE", "/session", &shown));
        assert!(code == 200 && field(&head, "Set-Cookie").unwrap().contains("Max-Age=0"), "{head}");
        assert_eq!(service.code("/status", &shown), 401);
    }
    // Another password, and nobody is logged in any more.
    let (_, head) = log_in(&service, "", "correct horse");
    let shown = format!("Cookie: {}\r\n", field(&head, "Set-Cookie").unwrap().split(';').next().unwrap());
    assert_eq!(service.code("/status", &shown), 200);
    fs::write(workshop.path("password"), hash(&workshop, "battery staple")).unwrap();
    service.signal("HUP");
    wait_for("the session to end", || {
        let code = service.code("/status", &shown);
        (code == 401).then_some(()).ok_or(code.to_string())
    });
}

#[test]
fn who_is_wrong_too_often_has_to_wait_and_sessions_go_on() {
    let workshop = workshop("http = \"127.0.0.1:0\"\ntoken_file = \"token\"");
    fs::write(workshop.path("token"), "0123456789abcdef").unwrap();
    let service = workshop.start();
    service.expect_log("ready", 0);
    let (_, head) = log_in(&service, "", "0123456789abcdef");
    let shown = format!("Cookie: {}\r\n", field(&head, "Set-Cookie").unwrap().split(';').next().unwrap());
    let bearer = |token: &str| http::request("GET", "/status", &format!("Authorization: Bearer {token}\r\n"));
    for number in 0..10 {
        assert_eq!(service.ask(0, &bearer(&format!("wrong-token-number-{number}"))).0, 401, "{number}");
    }
    let (code, head, body) = service.ask(0, &bearer("0123456789abcdef"));
    assert_eq!(code, 429, "{head}");
    let seconds: u64 = field(&head, "Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds) && body.starts_with(b"too many wrong ones"), "{head}");
    assert_eq!(log_in(&service, "", "0123456789abcdef").0, 429);
    // Without anything nothing was guessed.
    assert_eq!(service.code("/status", ""), 401);
    assert_eq!(service.code("/status", &shown), 200);
}

#[test]
fn a_password_alone_lets_others_reach_the_service() {
    let workshop = workshop("http = \"0.0.0.0:0\"\npassword_file = \"password\"");
    let error = String::from_utf8(workshop.output(&["check", "c.toml"]).stderr).unwrap();
    assert!(error.contains("password: No such file"), "{error}");
    fs::write(workshop.path("password"), "in the clear\n").unwrap();
    let output = workshop.output(&["check", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("`resightd password` makes one"), "{error}");
    assert!(!error.contains("in the clear"), "{error}");
    fs::write(workshop.path("password"), hash(&workshop, "correct horse")).unwrap();
    let service = workshop.start();
    service.expect_log("without encryption", 0);
    let short = workshop.command(&["password"]).stdin(Stdio::null()).output().unwrap();
    assert!(!short.status.success() && String::from_utf8(short.stderr).unwrap().contains("8 or more"));
    set_output(&workshop, "http = \"127.0.0.1:0\"\npassword = \"correct horse\"");
    let error = String::from_utf8(workshop.output(&["check", "c.toml"]).stderr).unwrap();
    assert!(
        error.contains("output.password: not in this file") && error.contains("password_file"),
        "{error}"
    );
}

/// The next part of a stream of pictures: the JPEG.
fn part(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut length = None;
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = Some(value.trim().parse().unwrap());
        }
        if line == "\r\n"
            && let Some(length) = length
        {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).unwrap();
            return bytes;
        }
    }
}

#[test]
fn a_stream_of_pictures_comes_with_basic_authorization_and_is_limited() {
    let workshop = workshop("http = \"127.0.0.1:0\"\npassword_file = \"password\"");
    fs::write(workshop.path("password"), hash(&workshop, "correct horse")).unwrap();
    let service = workshop.start();
    service.expect_log("ready", 0);
    let (code, head, _) = service.ask(0, &http::request("GET", "/stream.mjpg", ""));
    assert!(code == 401 && field(&head, "Www-Authenticate") == Some("Basic realm=\"resight\""), "{head}");
    // `printf 'ha:correct horse' | base64`, as Home Assistant sends it.
    let basic = "Authorization: Basic aGE6Y29ycmVjdCBob3JzZQ==\r\n";
    let open = || {
        let mut stream = service.connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(http::request("GET", "/stream.mjpg", basic).as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let mut stream = open();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let kind = "Content-Type: multipart/x-mixed-replace; boundary=frame\r\n";
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains(kind), "{head}");
    for _ in 0..3 {
        let image = image::load_from_memory(&part(&mut stream)).unwrap();
        assert_eq!((image.width(), image.height()), (SIDE, SIDE));
    }
    let mut others: Vec<_> = (0..7).map(|_| open()).collect();
    for stream in &mut others {
        part(stream);
    }
    assert_eq!(service.code("/stream.mjpg", basic), 503);
    assert_eq!(service.code("/events", basic), 503);
    drop(others);
    wait_for("room", || {
        let status = service.ask(0, &http::request("GET", "/status", basic)).2;
        let status: Value = serde_json::from_slice(&status).unwrap();
        (status["viewers"] == 1).then_some(()).ok_or(status["viewers"].to_string())
    });
    part(&mut stream);
    let (code, head, body) = service.ask(0, &http::request("HEAD", "/stream.mjpg", basic));
    assert!(code == 200 && body.is_empty(), "{head}");
}

#[test]
fn viewers_that_never_read_are_let_go() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let stuck: Vec<TcpStream> = ["/events", "/stream.mjpg"]
        .into_iter()
        .map(|path| {
            let address: std::net::SocketAddr = service.address(0).parse().unwrap();
            // As little as the kernel allows lies here before the service notices.
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                    .unwrap();
            sockopt::set_socket_recv_buffer_size(&socket, 2048).unwrap();
            rustix::net::connect(&socket, &address).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.write_all(http::request("GET", path, "").as_bytes()).unwrap();
            stream
        })
        .collect();
    let viewers = |count: u64| {
        wait_for("viewers", || {
            let viewers = service.status()["viewers"].as_u64();
            (viewers == Some(count)).then_some(()).ok_or(format!("{viewers:?}"))
        });
    };
    viewers(2);
    viewers(0);
    drop(stuck);
}

#[test]
fn pages_from_elsewhere_see_nothing_that_costs() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    for path in ["/events", "/frame.jpg", "/stream.mjpg"] {
        for fields in [
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
        ] {
            assert_eq!(service.code(path, fields), 403, "{path}: {fields}");
        }
    }
    for fields in ["", "Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n"] {
        assert_eq!(service.code("/frame.jpg", fields), 200, "{fields}");
    }
    // A link to the page may be anywhere.
    assert_eq!(service.code("/", "Sec-Fetch-Site: cross-site\r\n"), 200);
    assert_eq!(service.status()["http_unauthorised"], 12);
}

#[test]
fn what_two_servers_could_understand_differently_is_refused() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let body = "{\"dry_run\": true}";
    for (fields, code) in [
        ("Content-Length: +17\r\n", 400),
        ("Content-Length: -17\r\n", 400),
        ("Content-Length: 0x11\r\n", 400),
        ("Content-Length: 1 7\r\n", 400),
        ("Content-Length: 17, 17\r\n", 400),
        ("Content-Length: 99999999999999999999999\r\n", 400),
        ("Content-Length:\r\n", 400),
        ("Content-Length: 17\r\nContent-Length: 18\r\n", 400),
        ("Content-Length : 17\r\n", 400),
        ("Content-Length: 17\r\nTransfer-Encoding: chunked\r\n", 411),
        ("Transfer-Encoding: chunked\r\nContent-Length: 17\r\n", 411),
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Transfer-Encoding: identity\r\nContent-Length: 17\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding:\u{b}chunked\r\nContent-Length: 17\r\n", 400),
        ("Host: elsewhere\r\nContent-Length: 17\r\n", 400),
        (" folded: yes\r\nContent-Length: 17\r\n", 400),
    ] {
        // What follows the refusal would be a second request for whoever counts differently.
        let second = http::request("GET", "/status", "");
        let request =
            http::request("POST", "/switches", &format!("{JSON}Connection: keep-alive\r\n{fields}"));
        let (found, head, rest) = service.ask(0, &format!("{request}{body}{second}"));
        assert_eq!(found, code, "{fields}: {head}");
        assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{fields}: a second answer");
    }
    assert_eq!(service.code("http://localhost/status", ""), 400);
    assert_eq!(service.status()["dry_run"], false);
}

#[test]
fn limits_of_the_header_and_an_unread_body_have_their_answers() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(8 << 10));
    let many = format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(65));
    assert_eq!(service.ask(0, &long).0, 431);
    assert_eq!(service.ask(0, &many).0, 431);
    assert_eq!(service.ask(0, "\u{16}\u{3}\u{1}\r\n\r\n").0, 400);
    // An answer outlives a body that nobody reads.
    let request = http::request("POST", "/status", "Content-Length: 100000\r\n") + &"x".repeat(100_000);
    let (code, _, body) = service.ask(0, &request);
    assert_eq!((code, body.as_slice()), (405, &b"only GET\n"[..]));
    assert_eq!(service.code("/status", "Content-Length: 3\r\n"), 200);
    // Byte by byte there is no more time.
    let mut slow = service.connect();
    let mut told = String::new();
    for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 3000)) {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        slow.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut chunk = [0; 1000];
        match slow.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => told.push_str(std::str::from_utf8(&chunk[..length]).unwrap()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
}

#[test]
fn a_connection_stays_for_those_who_say_so() {
    let workshop = workshop("http = \"127.0.0.1:0\"");
    let service = workshop.start();
    service.expect_log("ready", 0);
    let mut stream = BufReader::new(service.connect());
    stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    for number in 0..3 {
        let keep = if number < 2 { "Connection: keep-alive\r\n" } else { "" };
        stream.get_mut().write_all(http::request("GET", "/healthz", keep).as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "{number}: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Content-Length: 3\r\n"), "{head}");
        assert_eq!(head.contains("Connection: close"), number == 2, "{head}");
        let mut body = [0; 3];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"ok\n");
    }
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// A request over TLS to a service whose certificate is this one.
fn encrypted(service: &Service, certificate: &[u8], path: &str) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let line = service.expect_log("listening on https://", 0);
    let stream = TcpStream::connect(line.rsplit("https://").next().unwrap())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    stream.write_all(http::request("GET", path, "").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn with_state(workshop: &Workshop) -> Command {
    let mut command = workshop.command(&["run", "c.toml"]);
    command.env("STATE_DIRECTORY", workshop.path("state"));
    command
}

#[test]
fn a_certificate_is_made_once_and_its_fingerprint_is_shown() {
    let workshop = workshop("http = \"127.0.0.1:0\"\ntls = true");
    let start = || Service::start(with_state(&workshop).stdin(Stdio::piped()));
    let mut service = start();
    service.expect_log("ready", 0);
    let certificate = fs::read(workshop.path("state/http_certificate.pem")).unwrap();
    let der = CertificateDer::from_pem_slice(&certificate).unwrap();
    let fingerprint: Vec<String> = Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    let fingerprint = fingerprint.join(":");
    service.expect_log(&format!("the certificate's SHA-256 is {fingerprint}"), 0);
    let shown = workshop
        .command(&["fingerprint", "c.toml"])
        .env("STATE_DIRECTORY", workshop.path("state"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), format!("{fingerprint}\n"));
    let answer = encrypted(&service, &certificate, "/healthz").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    // Who does not know of TLS is told.
    let line = service.expect_log("listening on https://", 0);
    let address = line.rsplit("https://").next().unwrap();
    let plain = http::ask(address, http::request("GET", "/", "").as_bytes()).unwrap();
    assert!(plain.code == 400 && plain.text().contains("https://"), "{plain:?}");
    service.signal("TERM");
    assert!(service.finish());
    let service = start();
    service.expect_log(&format!("the certificate's SHA-256 is {fingerprint}"), 0);
    // Over what is not encrypted nothing is asked of it.
    let health = workshop.output(&["health", "c.toml"]);
    let error = String::from_utf8(health.stderr).unwrap();
    assert!(!health.status.success() && error.contains("answers on a socket"), "{error}");
}

#[test]
fn the_users_certificate_is_checked_and_changed_by_a_reload() {
    let files = "http = \"127.0.0.1:0\"\ncertificate_file = \"tls.crt\"\nkey_file = \"tls.key\"";
    let workshop = workshop(files);
    let make = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (first, second) = (make(), make());
    let install = |certificate: &str, key: &str| {
        fs::write(workshop.path("tls.crt"), certificate).unwrap();
        fs::write(workshop.path("tls.key"), key).unwrap();
    };
    install(&first.0, &second.1);
    let output = workshop.output(&["check", "c.toml"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("do not belong together"), "{error}");
    install(&first.0, &first.1);
    assert_eq!(workshop.ok(&["check", "c.toml"]), "c.toml: valid\n");
    let service = workshop.start();
    service.expect_log("ready", 0);
    encrypted(&service, first.0.as_bytes(), "/healthz").unwrap();
    install(&second.0, &second.1);
    service.signal("HUP");
    wait_for("the other certificate", || {
        encrypted(&service, second.0.as_bytes(), "/healthz").map(drop).map_err(|error| error.to_string())
    });
    assert!(encrypted(&service, first.0.as_bytes(), "/healthz").is_err());
    for (settings, words) in [
        ("certificate_file = \"tls.crt\"", "output.key_file: missing"),
        ("key_file = \"tls.key\"", "output.certificate_file: missing"),
        ("tls = false\ncertificate_file = \"a\"\nkey_file = \"b\"", "output.tls: false, but"),
        ("tls = \"yes\"", "output.tls: expected true or false"),
    ] {
        set_output(&workshop, &format!("http = \"127.0.0.1:0\"\n{settings}"));
        let output = workshop.output(&["check", "c.toml"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(words), "{error}");
    }
}

#[test]
fn strangers_keep_nobody_from_the_health_of_the_service() {
    let workshop = workshop("http = \"127.0.0.1:0\"\ntoken_file = \"token\"");
    fs::write(workshop.path("token"), "0123456789abcdef").unwrap();
    fs::create_dir(workshop.path("run")).unwrap();
    // What a process left that was killed.
    drop(std::os::unix::net::UnixListener::bind(workshop.path("run/status.sock")).unwrap());
    let mut command = workshop.command(&["run", "c.toml"]);
    let mut service =
        Service::start(command.env("RUNTIME_DIRECTORY", workshop.path("run")).stdin(Stdio::piped()));
    service.expect_log("ready", 0);
    let idle: Vec<TcpStream> = (0..60).map(|_| service.connect()).collect();
    let health = |file: &str| {
        let mut command = workshop.command(&["health", file, "--seconds", "1", "--at-least", "0.1"]);
        command.env("RUNTIME_DIRECTORY", workshop.path("run")).output().unwrap()
    };
    let output = health("c.toml");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().ends_with("frames/s over 1 s\n"));
    drop(idle);
    // By a link the same, as releases are; with another configuration it is another service.
    std::os::unix::fs::symlink(workshop.path("c.toml"), workshop.path("link.toml")).unwrap();
    assert!(health("link.toml").status.success());
    let text = fs::read_to_string(workshop.path("c.toml")).unwrap();
    let text = text.replace("http = \"127.0.0.1:0\"\ntoken_file = \"token\"\n", "");
    fs::write(workshop.path("other.toml"), text).unwrap();
    let error = String::from_utf8(health("other.toml").stderr).unwrap();
    assert!(error.contains("no service with this configuration answers on a socket"), "{error}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(workshop.path("run/status.sock")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    service.signal("TERM");
    assert!(service.finish());
    assert!(!workshop.path("run/status.sock").exists());
}
