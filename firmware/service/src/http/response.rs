//! Answers: their header, and bodies with an end or without one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

/// In every answer. A browser loads nothing but the service's own files, runs nothing else, and shows
/// nothing of it within pages from elsewhere.
const FIELDS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
];

/// An answer of the server.
pub(super) type Answer = Response<Content>;

/// The body of an answer.
pub(super) enum Content {
    /// Taken when it is sent.
    Whole(Bytes),
    Endless(Produced),
}

/// What a future makes piece by piece, as they are taken. It runs only when there is room for more,
/// and ends with the connection.
pub(super) struct Produced {
    producer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    pieces: mpsc::Receiver<Bytes>,
}

impl Produced {
    /// The pieces that `produce` sends.
    pub(super) fn by<F: Future<Output = ()> + Send + 'static>(
        produce: impl FnOnce(mpsc::Sender<Bytes>) -> F,
    ) -> Self {
        let (sender, pieces) = mpsc::channel(1);
        Self { producer: Some(Box::pin(produce(sender))), pieces }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Endless(Produced { producer, pieces }) => {
                if producer.as_mut().is_some_and(|producer| producer.as_mut().poll(context).is_ready()) {
                    // With its end of the channel.
                    *producer = None;
                }
                pieces.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Endless(_) => SizeHint::default(),
        }
    }
}

fn answer(code: u16, kind: &'static str, content: Content) -> Answer {
    let mut answer = Response::new(content);
    // Every code here is one.
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let header = answer.headers_mut();
    header.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in FIELDS {
        header.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}

/// An answer with an end.
pub(super) fn whole(code: u16, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    answer(code, kind, Content::Whole(body.into()))
}

/// A line of text.
pub(super) fn text(code: u16, text: impl Into<String>) -> Answer {
    whole(code, "text/plain", text.into())
}

/// An answer without end.
pub(super) fn endless(kind: &'static str, produced: Produced) -> Answer {
    answer(200, kind, Content::Endless(produced))
}

/// Adds a field to the header; `value` is one that a header can hold.
pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().append(name, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn pieces_come_in_order_and_end_with_their_producer() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let produced = Produced::by(|sender| async move {
            for piece in ["a", "b", "c"] {
                sender.send(piece.into()).await.unwrap();
            }
        });
        let body = runtime.block_on(Content::Endless(produced).collect()).unwrap().to_bytes();
        assert_eq!(&body[..], b"abc");
        let body = runtime.block_on(text(200, "ok\n").into_body().collect()).unwrap().to_bytes();
        assert_eq!(&body[..], b"ok\n");
    }
}
