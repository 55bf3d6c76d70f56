//! One client: its requests and their answers over a connection, all with limits.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::access::Context;
use super::limits::{ANSWER_TIME, HEAD_TIME, MAX_FIELDS, MAX_HEAD};
use super::patience::{Endless, Patient};
use super::response::Answer;
use super::routes::{Caller, answer};
use crate::sync::lock;

/// How long a client may go on sending after its answer.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// Bytes that the kernel keeps for a client, and about twice of it in its books: what is on its way
/// to one that takes nothing is lost only when these are full.
const SEND_BUFFER: usize = 32 << 10;

/// First byte of a connection over TLS.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a browser shows that does not know of TLS.
const ENCRYPTED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    this address begins with https://\n";

const SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    the request took too long\n";

/// Answers a client until it is done.
pub(super) async fn converse(stream: TcpStream, address: IpAddr, context: Arc<Context>) {
    if let Err(error) = prepare(&stream) {
        log::debug!("a connection over HTTP: {error}");
        return;
    }
    let tls = lock(&context.access).tls.clone();
    let endless = Endless::default();
    let caller =
        |is_encrypted| Caller { address, is_encrypted, endless: endless.clone(), context: context.clone() };
    let Some(tls) = tls else {
        return serve(Patient::new(stream, ANSWER_TIME, endless.clone()), caller(false)).await;
    };
    let greeted = timeout(HEAD_TIME, async {
        let mut first = [0];
        // Nothing is taken yet.
        if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
            let mut stream = stream;
            let told = stream.write_all(ENCRYPTED).await;
            linger(stream).await;
            return told.and(Err(ErrorKind::InvalidData.into()));
        }
        TlsAcceptor::from(tls).accept(Patient::new(stream, ANSWER_TIME, endless.clone())).await
    });
    match greeted.await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
        Ok(stream) => serve(stream, caller(true)).await,
        Err(error) => {
            context.reach.telemetry.http_errors.one_more();
            log::debug!("a connection over TLS: {error}");
        }
    }
}

/// Lets the kernel give up clients that are gone, and keep little for those that are slow.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER)?;
    // For kernels that do not know it there is our own clock.
    let _ = sockopt::set_tcp_user_timeout(stream, ANSWER_TIME.as_millis() as u32);
    Ok(())
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, caller: Caller) {
    let telemetry = caller.context.reach.telemetry.clone();
    let answered = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let answered = &answered;
        let caller = &caller;
        Box::pin(async move {
            let keeps = wants_more(&request);
            let answer = answer(request, caller).await;
            answered.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(closing(answer, keeps))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .max_buf_size(2 * MAX_HEAD)
        .title_case_headers(true)
        // The clock of a board may be anything.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let result = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let mut stream = connection.into_parts().io.into_inner();
    match result {
        Ok(()) => {}
        // Between two requests there is nothing to wait for.
        Err(error) if error.is_timeout() && answered.load(Ordering::Relaxed) => {}
        Err(error) => {
            log::debug!("answering over HTTP: {error}");
            let cause =
                error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
            // Viewers may leave at any time.
            if !matches!(cause, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)) {
                telemetry.http_errors.one_more();
            }
            if error.is_timeout() {
                // Counted already, whether or not it hears of it.
                let _ = stream.write_all(SLOW).await;
            }
            if cause.is_some() {
                return;
            }
        }
    }
    linger(stream).await;
}

/// Whether the client says that it has more to ask. Most that do not would only hold a place.
fn wants_more<T>(request: &Request<T>) -> bool {
    let fields = request.headers().get_all(CONNECTION);
    fields
        .iter()
        .filter_map(|field| field.to_str().ok())
        .any(|field| field.split(',').any(|word| word.trim().eq_ignore_ascii_case("keep-alive")))
}

/// Nothing follows a refusal: what the client sends after it may be anything.
fn closing(mut answer: Answer, keeps: bool) -> Answer {
    if !keeps || !answer.status().is_success() {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// Closes a connection after its last answer. Closing with something unread, a body for example,
/// would reset it and take the answer with it.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let deadline = Instant::now() + LINGER_TIME;
    if !matches!(timeout_at(deadline, stream.shutdown()).await, Ok(Ok(()))) {
        return;
    }
    let mut rest = [0; 2048];
    while matches!(timeout_at(deadline, stream.read(&mut rest)).await, Ok(Ok(length)) if length > 0) {}
}
