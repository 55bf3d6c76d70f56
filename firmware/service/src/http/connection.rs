//! One request and one answer over a connection, both with limits.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Largest request line with header, in bytes.
const MAX_HEAD: usize = 8 << 10;

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
    body: Vec<u8>,
}

impl Response {
    pub(super) fn new(code: u16, kind: &'static str, body: Vec<u8>) -> Self {
        Self { code, kind, body }
    }

    pub(super) fn text(code: u16, text: &str) -> Self {
        Self::new(code, "text/plain", text.as_bytes().to_vec())
    }

    fn head(&self) -> String {
        let reason = match self.code {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            421 => "Misdirected Request",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        let extra = match self.code {
            401 => "WWW-Authenticate: Bearer\r\n",
            405 => "Allow: GET, HEAD\r\n",
            _ => "",
        };
        format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\n{extra}Connection: close\r\n\r\n",
            self.code,
            self.kind,
            self.body.len()
        )
    }
}

/// What is left until `deadline`; an error when it has passed.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads the request line and the header. A body is not looked at.
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
        if let Some(request) = parse(&bytes)? {
            return Ok(request);
        }
        if bytes.len() > MAX_HEAD {
            return Err(Wrong::Large);
        }
    }
}

/// The request that `bytes` begin with; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<Request>, Wrong> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => {}
        Ok(httparse::Status::Complete(_)) | Err(httparse::Error::TooManyHeaders) => return Err(Wrong::Large),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Wrong::Malformed),
    }
    // Two different values could be understood in two ways.
    let field = |name: &str| {
        let mut values = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (value, None) => Ok(value.map(|field| field.value.to_vec())),
            _ => Err(Wrong::Malformed),
        }
    };
    let host = field("Host")?.map(String::from_utf8).transpose().map_err(|_| Wrong::Malformed)?;
    let authorization = field("Authorization")?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Ok(Some(Request { method: text(request.method), target: text(request.path), host, authorization }))
}

/// Writes an answer, for HEAD without its body, and closes the connection.
///
/// # Errors
/// A client that is gone or takes too long.
pub(super) fn write(mut stream: &TcpStream, response: &Response, head_only: bool) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER_TIME;
    let head = response.head().into_bytes();
    let body: &[u8] = if head_only { &[] } else { &response.body };
    for mut bytes in [&head[..], body] {
        while !bytes.is_empty() {
            stream.set_write_timeout(Some(left(deadline)?))?;
            match stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
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
