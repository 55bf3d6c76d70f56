//! Asking a running service.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Status, Told};

/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error(
        "http://{address}/status: the service does not answer: {cause}; does it run, and with this configuration?"
    )]
    Silent {
        /// Who was asked.
        address: SocketAddr,
        /// What failed.
        cause: io::Error,
    },
    /// Another answer.
    #[error("http://{address}/status: the answer was {code}; {}", remedy(.code))]
    Refused {
        /// Who was asked.
        address: SocketAddr,
        /// The code of the answer.
        code: String,
    },
    /// No answer on a socket.
    #[error("{path}: the service does not answer: {cause}")]
    SilentSocket {
        /// The socket.
        path: String,
        /// What failed.
        cause: io::Error,
    },
    /// Something on a socket that is no status.
    #[error("{path}: this is no resightd's answer: {cause}")]
    ForeignSocket {
        /// The socket.
        path: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// An answer that is no status.
    #[error("http://{address}/status: this is no resightd's answer: {cause}")]
    Foreign {
        /// Who was asked.
        address: SocketAddr,
        /// What is wrong with the answer.
        cause: serde_json::Error,
    },
}

fn remedy(code: &str) -> &'static str {
    match code {
        "401" => "the token is another one",
        "" => "something else listens there",
        _ => "see the service's log",
    }
}

/// Asks the service at `address`, which must be one that can be connected to. `token` is shown if
/// there is one; each step may take `patience`.
///
/// # Errors
/// A service that is not there, refuses, or says what is no status.
pub fn ask(address: SocketAddr, token: Option<&str>, patience: Duration) -> Result<Status, ClientError> {
    let answer =
        exchange(address, token, patience).map_err(|cause| ClientError::Silent { address, cause })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let code = head.split(' ').nth(1).unwrap_or_default();
    if code != "200" {
        return Err(ClientError::Refused { address, code: code.to_owned() });
    }
    Status::parse(body).map_err(|cause| ClientError::Foreign { address, cause })
}

fn exchange(address: SocketAddr, token: Option<&str>, patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET /status HTTP/1.1\r\nHost: {address}\r\n{token}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks the service on a Unix socket; the answer may take `patience`.
///
/// # Errors
/// A service that is not there, and what is no status.
pub fn ask_socket(path: &Path, patience: Duration) -> Result<Told, ClientError> {
    let name = || path.display().to_string();
    let listen = || -> io::Result<Vec<u8>> {
        // It accepts at once, or has too many waiting and refuses.
        let mut stream = UnixStream::connect(path)?;
        let (deadline, mut answer, mut chunk) = (Instant::now() + patience, vec![], vec![0; 16 << 10]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || answer.len() as u64 > MAX_ANSWER {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut chunk)? {
                0 => return Ok(answer),
                count => answer.extend_from_slice(&chunk[..count]),
            }
        }
    };
    let answer = listen().map_err(|cause| ClientError::SilentSocket { path: name(), cause })?;
    serde_json::from_slice(&answer).map_err(|cause| ClientError::ForeignSocket { path: name(), cause })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// What [`ask`] makes of an answer, and the request.
    fn asked(answer: &'static str, token: Option<&str>) -> (Result<Status, ClientError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request[..length].to_vec()).unwrap()
        });
        let result = ask(address, token, Duration::from_mins(1));
        (result, server.join().unwrap())
    }

    #[test]
    fn refusals_name_their_remedy() {
        let table = [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", "the answer was 401; the token is another one"),
            ("HTTP/1.1 500 Oh\r\n\r\n", "the answer was 500; see the service's log"),
            ("SSH-2.0-x\r\n", "the answer was ; something else listens there"),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "this is no resightd's answer: missing field"),
        ];
        for (answer, expected) in table {
            let error = asked(answer, None).0.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_token_is_shown() {
        let answer = concat!("HTTP/1.1 200 OK\r\n\r\n", include_str!("../tests/status-before.json"));
        let (status, request) = asked(answer, Some("0123456789abcdef"));
        status.unwrap();
        assert!(request.contains("\r\nAuthorization: Bearer 0123456789abcdef\r\n"), "{request}");
    }

    #[test]
    fn a_socket_tells_whoever_connects() {
        let folder = std::env::temp_dir().join(format!("resight-status-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("status.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let status = include_str!("../tests/status-before.json");
        let whole = format!("{{\"configuration\": \"/etc/c.toml\", \"status\": {status}}}");
        let answers = [whole.clone(), "SSH-2.0-x".to_owned(), String::new()];
        let server = thread::spawn(move || {
            for answer in answers {
                listener.accept().unwrap().0.write_all(answer.as_bytes()).unwrap();
            }
            // Listens, and says nothing.
            listener
        });
        let patience = Duration::from_mins(1);
        assert_eq!(ask_socket(&path, patience).unwrap().configuration, "/etc/c.toml");
        for _ in 0..2 {
            let error = ask_socket(&path, patience).unwrap_err().to_string();
            assert!(error.contains("this is no resightd's answer"), "{error}");
        }
        let listener = server.join().unwrap();
        let error = ask_socket(&path, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ClientError::SilentSocket { .. }), "{error}");
        drop(listener);
        let error = ask_socket(&path, patience).unwrap_err().to_string();
        assert!(error.contains("the service does not answer"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn nobody_there_is_said() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ask(free, None, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    }
}
