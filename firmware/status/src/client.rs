//! Asking a running service.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Status;

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
    fn nobody_there_is_said() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ask(free, None, Duration::from_secs(5)).unwrap_err();
        assert!(matches!(error, ClientError::Silent { .. }), "{error}");
    }
}
