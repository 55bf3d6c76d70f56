//! One request and one answer over a connection, both with limits.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Largest request line with header, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Largest body that is read, in bytes.
pub(super) const MAX_BODY: usize = 4 << 10;

/// Most fields of a header.
const MAX_FIELDS: usize = 64;

/// How long a header may take.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// How long an answer may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long a client may go on sending after its answer.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// What is looked at of a request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: Option<String>,
    pub(super) authorization: Option<Vec<u8>>,
    /// Where the page comes from that makes the request.
    pub(super) origin: Option<Vec<u8>>,
    /// The browser's word for the same.
    pub(super) fetch_site: Option<Vec<u8>>,
    pub(super) content_type: Option<Vec<u8>>,
    /// Bytes of the body; `None` if the request does not tell.
    pub(super) length: Option<usize>,
    /// Read only of POST, and only up to [`MAX_BODY`]; otherwise empty.
    pub(super) body: Vec<u8>,
}

/// Why there is no request.
#[derive(Debug, PartialEq)]
pub(super) enum Wrong {
    Gone,
    Slow,
    Large,
    Malformed,
}

/// An answer.
pub(super) struct Response {
    code: u16,
    kind: &'static str,
    /// More fields of the header: name and value.
    fields: Vec<(&'static str, String)>,
    body: Cow<'static, [u8]>,
}

impl Response {
    pub(super) fn new(code: u16, kind: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { code, kind, fields: vec![], body: body.into() }
    }

    pub(super) fn text(code: u16, text: &str) -> Self {
        Self::new(code, "text/plain", text.as_bytes().to_vec())
    }

    /// Adds a field to the header; neither may hold line ends.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Status line and header; of an answer without end without its length.
    fn head(&self, endless: bool) -> String {
        let reason = match self.code {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\n", self.code, self.kind);
        if !endless {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str(FIELDS);
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("Connection: close\r\n\r\n");
        head
    }
}

/// In every answer. A browser loads nothing but the service's own files, runs nothing else, and shows
/// nothing of it within pages from elsewhere.
const FIELDS: &str = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n\
    Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n";

/// What is left until `deadline`; an error when it has passed.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads the request line and the header, and the body if it is to be looked at.
pub(super) fn read(stream: &TcpStream) -> Result<Request, Wrong> {
    read_until(stream, Instant::now() + HEAD_TIME)
}

fn read_until(mut stream: &TcpStream, deadline: Instant) -> Result<Request, Wrong> {
    let mut bytes = vec![];
    let mut chunk = [0; 2048];
    loop {
        let read = left(deadline).and_then(|left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(&mut chunk)
        });
        match read {
            Ok(0) => return Err(Wrong::Gone),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(Wrong::Slow);
            }
            Err(_) => return Err(Wrong::Gone),
        }
        if let Some((mut request, head)) = parse(&bytes)? {
            let body = request.length.filter(|length| request.method == "POST" && *length <= MAX_BODY);
            let body = body.unwrap_or_default();
            if let Some(body) = bytes.get(head..head + body) {
                request.body = body.to_vec();
                return Ok(request);
            }
        } else if bytes.len() > MAX_HEAD {
            return Err(Wrong::Large);
        }
    }
}

/// The request that `bytes` begin with, without its body, and where that begins; `None` while it
/// is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Wrong> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => return Err(Wrong::Large),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Wrong::Malformed),
    };
    // Two different values could be understood in two ways.
    let field = |name: &str| {
        let mut values = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (value, None) => Ok(value.map(|field| field.value.to_vec())),
            _ => Err(Wrong::Malformed),
        }
    };
    let host = field("Host")?.map(String::from_utf8).transpose().map_err(|_| Wrong::Malformed)?;
    let digits = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
    let length = field("Content-Length")?.map(|value| digits(&value).ok_or(Wrong::Malformed)).transpose()?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let request = Request {
        method: text(request.method),
        target: text(request.path),
        host,
        authorization: field("Authorization")?,
        origin: field("Origin")?,
        fetch_site: field("Sec-Fetch-Site")?,
        content_type: field("Content-Type")?,
        length,
        body: vec![],
    };
    Ok(Some((request, head)))
}

/// Writes an answer, for HEAD without its body, and closes the connection.
///
/// # Errors
/// A client that is gone or takes too long.
pub(super) fn write(mut stream: &TcpStream, response: &Response, head_only: bool) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER_TIME;
    write_until(stream, response.head(false).as_bytes(), deadline)?;
    if !head_only {
        write_until(stream, &response.body, deadline)?;
    }
    stream.shutdown(Shutdown::Write)?;
    // Closing with something unread, a body for example, would reset the connection and take the
    // answer with it.
    let deadline = Instant::now() + LINGER_TIME;
    let mut rest = [0; 2048];
    while let Ok(left) = left(deadline) {
        stream.set_read_timeout(Some(left))?;
        if !matches!(stream.read(&mut rest), Ok(length) if length > 0) {
            break;
        }
    }
    Ok(())
}

/// Begins an answer without end.
///
/// # Errors
/// A client that is gone or takes too long.
pub(super) fn begin(stream: &TcpStream, response: &Response) -> io::Result<()> {
    go_on(stream, response.head(true).as_bytes())
}

/// Writes a part of an answer without end.
///
/// # Errors
/// A client that is gone or takes too long.
pub(super) fn go_on(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    write_until(stream, bytes, Instant::now() + ANSWER_TIME)
}

fn write_until(mut stream: &TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn request(bytes: &[u8]) -> Result<Request, Wrong> {
        let (mut client, server) = pair();
        client.write_all(bytes).unwrap();
        read_until(&server, Instant::now() + Duration::from_millis(100))
    }

    #[test]
    fn requests_are_understood_or_refused() {
        let found =
            request(b"GET /a?b HTTP/1.1\r\nhost: x\r\nAUTHORIZATION: Bearer y\r\n\r\nbody").ok().unwrap();
        assert_eq!((found.method.as_str(), found.target.as_str()), ("GET", "/a?b"));
        assert_eq!(
            (found.host.as_deref(), found.authorization.as_deref()),
            (Some("x"), Some(&b"Bearer y"[..]))
        );
        let wrong = |bytes: &[u8]| request(bytes).err().unwrap();
        assert_eq!(wrong(b"GET / HTTP/1.1\r\nHost: "), Wrong::Slow);
        assert_eq!(wrong(b"\x16\x03\x01"), Wrong::Malformed);
        assert_eq!(wrong(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Wrong::Malformed);
        assert_eq!(wrong(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD)).as_bytes()), Wrong::Large);
        assert_eq!(
            wrong(format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65)).as_bytes()),
            Wrong::Large
        );
    }

    #[test]
    fn the_body_of_a_post_is_read_up_to_a_limit() {
        let post = |length: &str, body: &str| {
            request(format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
        };
        let found = post("3", "abcdef").ok().unwrap();
        assert_eq!((found.length, found.body.as_slice()), (Some(3), &b"abc"[..]));
        assert!(post("100000", "abc").ok().unwrap().body.is_empty());
        assert_eq!(post("5", "abc").err(), Some(Wrong::Slow));
        for length in ["-1", "x", "99999999999999999999999"] {
            assert_eq!(post(length, "").err(), Some(Wrong::Malformed), "{length}");
        }
        let get = request(b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n").ok().unwrap();
        assert!(get.body.is_empty());
    }

    #[test]
    fn a_client_that_sends_byte_by_byte_has_no_more_time() {
        let (mut client, server) = pair();
        let sender = thread::spawn(move || {
            for byte in b"GET / HTTP/1.1\r\n".iter().cycle() {
                thread::sleep(Duration::from_millis(10));
                if client.write_all(&[*byte]).is_err() {
                    return;
                }
            }
        });
        let start = Instant::now();
        let result = read_until(&server, start + Duration::from_millis(150));
        assert!(matches!(result, Err(Wrong::Slow | Wrong::Malformed)));
        drop(server);
        sender.join().unwrap();
    }

    #[test]
    fn an_answer_outlives_an_unread_body() {
        let (mut client, server) = pair();
        let serving = thread::spawn(move || {
            let request = read(&server).ok().unwrap();
            assert_eq!(request.method, "POST");
            write(&server, &Response::text(405, "only GET\n"), false).unwrap();
        });
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").unwrap();
        client.write_all(&vec![b'x'; 100_000]).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.ends_with("\r\n\r\nonly GET\n"), "{answer}");
        drop(client);
        serving.join().unwrap();
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let (mut client, server) = pair();
        let serving = thread::spawn(move || write(&server, &Response::text(200, "ok\n"), true));
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
        drop(client);
        serving.join().unwrap().unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..60) {
            let valid = b"GET /status HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n";
            let _ = parse(&bytes);
            let _ = parse(&[&valid[..cut], &bytes[..]].concat());
        }
    }
}
