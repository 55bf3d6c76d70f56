//! What there is, who may have it, and what is refused.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use hyper::header::{
    ALLOW, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN,
    RETRY_AFTER, SET_COOKIE, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use hyper::{HeaderMap, Method, Request};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::access::{Access, Context, Shown, Verdict};
use super::limits::{FRAME_WAIT, HEAD_TIME, MAX_BODY};
use super::page;
use super::patience::Endless;
use super::pictures::{self, pictures};
use super::response::{Answer, Produced, endless, text, whole, with};
use super::sessions::cookie;
use super::stream::{classes, stream};
use crate::judge::{Switch, SwitchError};
use crate::live::VIEWERS;
use crate::reach::Reach;
use crate::status::CameraBoard;
use crate::sync::lock;

/// What is there for those who may have it, and the page.
const PATHS: &str =
    "there are /, /status, /metrics, /healthz, /frame.jpg, /stream.mjpg, /events, /switches and /session\n";

/// Whose request is answered.
pub(super) struct Caller {
    pub(super) address: IpAddr,
    pub(super) is_encrypted: bool,
    /// Of the connection.
    pub(super) endless: Endless,
    pub(super) context: Arc<Context>,
}

/// What is looked at of a header.
#[derive(Default)]
struct Head {
    method: Method,
    path: String,
    query: String,
    host: Option<String>,
    authorization: Option<Vec<u8>>,
    /// Where the page comes from that makes the request.
    origin: Option<Vec<u8>>,
    /// The browser's word for the same.
    fetch_site: Option<Vec<u8>>,
    content_type: Option<Vec<u8>>,
    cookies: Option<String>,
    /// Bytes of the body; `None` if the request does not tell.
    length: Option<usize>,
}

impl Head {
    /// Reads a header. An error is the answer to one that could be understood in two ways.
    #[expect(clippy::result_large_err, reason = "made once for a request that is refused")]
    fn read<B>(request: &Request<B>) -> Result<Self, Answer> {
        let malformed = || text(400, "not HTTP/1\n");
        let header = request.headers();
        // A length of which nobody knows is none, and with a length besides there would be two.
        if header.contains_key(TRANSFER_ENCODING) {
            return Err(text(411, "Content-Length is needed, Transfer-Encoding is not taken\n"));
        }
        // A target with a host of its own would say who is asked a second time.
        if request.uri().authority().is_some() {
            return Err(malformed());
        }
        let field = |name: HeaderName| one(header, &name).map_err(|()| malformed());
        let line = |name: HeaderName| -> Result<Option<String>, Answer> {
            field(name)?.map(String::from_utf8).transpose().map_err(|_| malformed())
        };
        let length = line(CONTENT_LENGTH)?.map(|digits| digits.parse().map_err(|_| malformed()));
        Ok(Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            host: line(HOST)?,
            authorization: field(AUTHORIZATION)?,
            origin: field(ORIGIN)?,
            fetch_site: field(HeaderName::from_static("sec-fetch-site"))?,
            content_type: field(CONTENT_TYPE)?,
            cookies: line(COOKIE)?,
            length: length.transpose()?,
        })
    }

    /// Whether no page from elsewhere makes the request. Such a page could act for whoever looks at
    /// it: a browser sends requests to loopback for every page that it shows.
    fn is_own_page(&self) -> bool {
        match (&self.fetch_site, &self.origin) {
            // What a browser says here, no page can change.
            (Some(site), _) => site == b"same-origin",
            // Not told over plain HTTP beyond loopback.
            (None, Some(origin)) => {
                let origin = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
                origin.is_some_and(|origin| self.host.as_ref().is_some_and(|host| host.as_bytes() == origin))
            }
            // No browser.
            (None, None) => true,
        }
    }

    /// Whether a page from elsewhere only looks: what somebody types into the browser's own line comes
    /// from no page.
    fn is_foreign_page(&self) -> bool {
        self.fetch_site.as_deref() != Some(b"none") && !self.is_own_page()
    }
}

/// The value of a field; an error if it is there twice, because two could be understood in two ways.
fn one(header: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<u8>>, ()> {
    let mut values = header.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|value| value.as_bytes().to_vec())),
        _ => Err(()),
    }
}

/// Answers a request.
pub(super) async fn answer<B>(request: Request<B>, caller: &Caller) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let telemetry = &caller.context.reach.telemetry;
    let head = match Head::read(&request) {
        Ok(head) => head,
        Err(refused) => {
            telemetry.http_errors.one_more();
            return refused;
        }
    };
    telemetry.http_requests.one_more();
    let access = lock(&caller.context.access).clone();
    let refused = refusal(&head, &access, caller);
    if let Some(refused) = refused {
        telemetry.http_unauthorised.one_more();
        return refused;
    }
    match (head.path.as_str(), head.method.clone()) {
        ("/switches", Method::POST) if !access.switches => text(403, "`switches` in [output] is false\n"),
        ("/switches", Method::POST) => match json_body(&head, request.into_body()).await {
            Ok(body) => switch(&body, &caller.context.reach),
            Err(refused) => refused,
        },
        ("/session", Method::POST) => match json_body(&head, request.into_body()).await {
            Ok(body) => log_in(&head, &body, &access, caller),
            Err(refused) => refused,
        },
        ("/session", Method::DELETE) => {
            access.end_session(head.cookies.as_deref().unwrap_or_default());
            let host = head.host.as_deref().unwrap_or_default();
            with(text(200, "ended\n"), SET_COOKIE, &cookie(None, host, caller.is_encrypted))
        }
        ("/switches", _) => with(text(405, "only POST\n"), ALLOW, "POST"),
        ("/session", _) => with(text(405, "only POST and DELETE\n"), ALLOW, "POST, DELETE"),
        (_, Method::GET | Method::HEAD) => read(&head, access, caller).await,
        _ => with(text(405, "only GET\n"), ALLOW, "GET, HEAD"),
    }
}

/// Why this caller gets nothing, if so.
fn refusal(head: &Head, access: &Access, caller: &Caller) -> Option<Answer> {
    if !access.knows_host(head.host.as_deref()) {
        return Some(text(421, "this host is not in `output.hosts`\n"));
    }
    let changes = head.path == "/switches" && head.method == Method::POST || head.path == "/session";
    // The page itself holds nothing of the board, and who begins a session has shown nothing yet.
    let is_for_all = page::file(&head.path).is_some() || head.path == "/session";
    if !is_for_all && !access.is_open() && !access.knows_cookies(head.cookies.as_deref()) {
        let verdict = match &head.authorization {
            None => Verdict::Unknown,
            Some(given) => {
                let mut attempts = lock(&caller.context.attempts);
                access.admit(&Shown::Authorization(given), caller.address, &mut attempts)
            }
        };
        if let Some(refused) = unknown(&verdict, &head.path) {
            return Some(refused);
        }
    }
    if changes && !head.is_own_page() {
        return Some(text(403, "pages from elsewhere may not switch anything\n"));
    }
    if matches!(head.path.as_str(), "/events" | "/frame.jpg" | "/stream.mjpg") && head.is_foreign_page() {
        return Some(text(403, "pages from elsewhere may not look\n"));
    }
    None
}

fn unknown(verdict: &Verdict, path: &str) -> Option<Answer> {
    match verdict {
        Verdict::Welcome => None,
        // Asked for a name and a password, a browser would put a window of its own over the page.
        Verdict::Unknown if path == "/stream.mjpg" => {
            let refused = text(401, "Authorization: Basic or Bearer TOKEN is needed\n");
            Some(with(refused, WWW_AUTHENTICATE, "Basic realm=\"resight\""))
        }
        Verdict::Unknown => {
            Some(with(text(401, "Authorization: Bearer TOKEN is needed\n"), WWW_AUTHENTICATE, "Bearer"))
        }
        Verdict::Barred(wait) => {
            let seconds = wait.as_secs() + 1;
            let refused = text(429, format!("too many wrong ones; wait for {seconds} s\n"));
            Some(with(refused, RETRY_AFTER, &seconds.to_string()))
        }
    }
}

async fn read(head: &Head, access: Arc<Access>, caller: &Caller) -> Answer {
    let reach = &caller.context.reach;
    if let Some(page) = page::file(&head.path) {
        return page;
    }
    let headless = head.method == Method::HEAD;
    match head.path.as_str() {
        "/status" => whole(200, "application/json", json_text(&reach.board.status())),
        "/metrics" => whole(200, "text/plain; version=0.0.4", reach.board.prometheus()),
        "/healthz" if !reach.board.is_any_stale() => text(200, "ok\n"),
        "/healthz" => text(503, stale(&reach.board.stale_cameras())),
        "/frame.jpg" => match camera(head, reach) {
            Ok(camera) => frame(&camera).await,
            Err(refused) => refused,
        },
        "/events" if headless => whole(200, "text/event-stream", ""),
        "/stream.mjpg" if headless => whole(200, pictures::KIND, ""),
        "/events" | "/stream.mjpg" => watch(head, access, caller),
        _ => text(404, PATHS),
    }
}

/// What is said when frames are missing; the names of the cameras where there are several.
fn stale(cameras: &[String]) -> String {
    if cameras.is_empty() { "stale\n".to_owned() } else { format!("stale: {}\n", cameras.join(", ")) }
}

/// The camera that is asked for by `camera=NAME`, or without that the first. An error is the answer to a
/// name that none has.
#[expect(clippy::result_large_err, reason = "made once for a request that is refused")]
fn camera(head: &Head, reach: &Reach) -> Result<Arc<CameraBoard>, Answer> {
    let mut pairs = head.query.split('&').filter_map(|pair| pair.split_once('='));
    let name = pairs.find(|(key, _)| *key == "camera").map(|(_, name)| name);
    reach.board.camera(name).ok_or_else(|| {
        let cameras = reach.board.cameras();
        let names: Vec<String> = cameras.iter().filter_map(|camera| camera.names().camera.clone()).collect();
        let there = if names.is_empty() {
            "there is one camera, which has no name".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        text(404, format!("no such camera; {there}\n"))
    })
}

/// An answer without end, if there is room for one more.
fn watch(head: &Head, access: Arc<Access>, caller: &Caller) -> Answer {
    let context = caller.context.clone();
    let camera = match camera(head, &context.reach) {
        Ok(camera) => camera,
        Err(refused) => return refused,
    };
    let Some(viewer) = context.reach.live.watch() else {
        context.reach.telemetry.http_refused.one_more();
        return text(503, format!("there are {VIEWERS} viewers already\n"));
    };
    caller.endless.set();
    let answer = if head.path == "/events" {
        endless("text/event-stream", Produced::by(|sender| stream(sender, viewer, access, context)))
    } else {
        endless(pictures::KIND, Produced::by(|sender| pictures(sender, (viewer, camera), access, context)))
    };
    // What would follow has the time of an answer with an end.
    with(answer, CONNECTION, "close")
}

/// The next frame, and what the network saw in it.
async fn frame(camera: &CameraBoard) -> Answer {
    let Some(seen) = camera.tap.next(FRAME_WAIT).await else {
        return text(503, "no frame came in time\n");
    };
    match seen.jpeg() {
        Ok(jpeg) => {
            let shown = json!({ "frame": seen.number(), "top": classes(&seen.top, &camera.names()) });
            let name = HeaderName::from_static("resight-frame");
            with(whole(200, "image/jpeg", jpeg.to_vec()), name, &ascii(&shown))
        }
        Err(error) => text(500, format!("{error}\n")),
    }
}

/// A status as JSON. It has no map whose keys are no text, so nothing can be wrong with it.
fn json_text(status: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(status).unwrap_or_default()
}

/// JSON that a header can hold.
fn ascii(value: &Value) -> String {
    let mut text = String::new();
    let mut units = [0; 2];
    for character in value.to_string().chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// The body of a request that changes something; an error is the answer to another one.
async fn json_body<B>(head: &Head, body: B) -> Result<Vec<u8>, Answer>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match head.length {
        None => return Err(text(411, "Content-Length is needed\n")),
        Some(length) if length > MAX_BODY => return Err(text(413, "the body is too large\n")),
        Some(_) => {}
    }
    // Forms of pages from elsewhere can send any other type without being asked.
    let is_json = |kind: &[u8]| {
        kind.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii) == Some(&b"application/json"[..])
    };
    if !head.content_type.as_deref().is_some_and(is_json) {
        return Err(text(415, "Content-Type: application/json is needed\n"));
    }
    match timeout(HEAD_TIME, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(_)) => Err(text(400, "the body is not whole\n")),
        Err(_) => Err(text(408, "the request took too long\n")),
    }
}

fn switch(body: &[u8], reach: &Reach) -> Answer {
    let Some(switch) = wanted(body) else {
        let expected = "expected {\"dry_run\": true} or {\"rule\": NAME, \"armed\": true}, or false\n";
        return text(400, expected);
    };
    match (reach.switch)(&switch) {
        Ok(()) => {
            reach.telemetry.http_switched.one_more();
            whole(200, "application/json", json_text(&reach.board.state()))
        }
        Err(error @ SwitchError::NoRule(_)) => text(404, format!("{error}\n")),
        Err(error @ SwitchError::Configured) => text(409, format!("{error}\n")),
        Err(error @ SwitchError::Busy) => text(503, format!("{error}\n")),
    }
}

/// What a request wants to switch; nothing else may be in it.
fn wanted(body: &[u8]) -> Option<Switch> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let value = value.as_object()?;
    match (value.len(), value.get("dry_run"), value.get("rule"), value.get("armed")) {
        (1, Some(on), ..) => Some(Switch::DryRun(on.as_bool()?)),
        (2, None, Some(name), Some(armed)) => {
            Some(Switch::Rule { name: name.as_str()?.to_owned(), armed: armed.as_bool()? })
        }
        _ => None,
    }
}

/// Begins a session for a browser that shows the token or the password.
fn log_in(head: &Head, body: &[u8], access: &Access, caller: &Caller) -> Answer {
    let shown: Option<String> = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| Some(value.as_object()?.get("secret")?.as_str()?.to_owned()));
    let Some(shown) = shown else { return text(400, "expected {\"secret\": TOKEN}, or the password\n") };
    if !access.is_open() {
        let verdict = {
            let mut attempts = lock(&caller.context.attempts);
            access.admit(&Shown::Typed(shown.as_bytes()), caller.address, &mut attempts)
        };
        if let Some(refused) = unknown(&verdict, &head.path) {
            caller.context.reach.telemetry.http_unauthorised.one_more();
            return refused;
        }
    }
    let Some(secret) = access.begin_session() else { return text(500, "no random numbers\n") };
    let host = head.host.as_deref().unwrap_or_default();
    with(text(200, "welcome\n"), SET_COOKIE, &cookie(Some(&secret), host, caller.is_encrypted))
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &[(&str, &str)]) -> Head {
        let field = |wanted: &str| {
            fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_bytes().to_vec())
        };
        Head {
            method: Method::POST,
            path: "/switches".into(),
            host: Some("127.0.0.1:8600".into()),
            origin: field("origin"),
            fetch_site: field("site"),
            ..Head::default()
        }
    }

    #[test]
    fn pages_from_elsewhere_are_told_from_our_own() {
        let table: [(&[_], _, _); 10] = [
            (&[], true, true),
            (&[("site", "same-origin"), ("origin", "http://127.0.0.1:8600")], true, true),
            // Behind a proxy that changes the host.
            (&[("site", "same-origin"), ("origin", "https://board.example")], true, true),
            (&[("site", "same-site"), ("origin", "http://127.0.0.1:8600")], false, false),
            (&[("site", "cross-site")], false, false),
            // Typed, or out of a bookmark: that may look, and switches nothing.
            (&[("site", "none")], false, true),
            (&[("origin", "http://127.0.0.1:8600")], true, true),
            (&[("origin", "http://127.0.0.1:9000")], false, false),
            (&[("origin", "http://evil.example")], false, false),
            (&[("origin", "null")], false, false),
        ];
        for (fields, may_switch, may_look) in table {
            let head = request(fields);
            assert_eq!((head.is_own_page(), !head.is_foreign_page()), (may_switch, may_look), "{fields:?}");
        }
    }

    #[test]
    fn only_whole_switches_are_understood() {
        let rule = |armed| Some(Switch::Rule { name: "a".into(), armed });
        let table = [
            ("{\"dry_run\": true}", Some(Switch::DryRun(true))),
            ("{\"armed\": false, \"rule\": \"a\"}", rule(false)),
            ("{\"rule\": \"a\", \"armed\": true}", rule(true)),
            ("{\"rule\": \"a\"}", None),
            ("{\"rule\": \"a\", \"armed\": 1}", None),
            ("{\"rule\": \"a\", \"armed\": true, \"dry_run\": false}", None),
            ("{\"dry_run\": true, \"other\": 1}", None),
            ("{\"dry_run\": \"true\"}", None),
            ("[]", None),
            ("", None),
        ];
        for (body, expected) in table {
            assert_eq!(wanted(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn names_of_classes_fit_into_a_header() {
        assert_eq!(ascii(&json!(["Kätzchen", "a\nb", "🐈"])), r#"["K\u00e4tzchen","a\nb","\ud83d\udc08"]"#);
    }

    /// The head of a request with these fields; the code of its refusal otherwise.
    fn head(target: &str, fields: &[(&str, &[u8])]) -> Result<Head, u16> {
        let mut request = Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        Head::read(&request.body(()).unwrap()).map_err(|refused| refused.status().as_u16())
    }

    #[test]
    fn what_could_be_understood_in_two_ways_is_refused() {
        let found = head("/a?b", &[("host", b"x"), ("authorization", b"Bearer y"), ("content-length", b"3")]);
        let found = found.unwrap();
        assert_eq!((found.path.as_str(), found.query.as_str()), ("/a", "b"));
        assert_eq!((found.host.as_deref(), found.length), (Some("x"), Some(3)));
        assert_eq!(found.authorization.as_deref(), Some(&b"Bearer y"[..]));
        for name in ["host", "authorization", "origin", "sec-fetch-site", "content-type", "cookie"] {
            assert_eq!(head("/", &[(name, b"a"), (name, b"b")]).err(), Some(400), "{name}");
        }
        assert_eq!(head("http://evil.example/", &[("host", b"localhost")]).err(), Some(400));
        assert_eq!(head("/", &[("host", b"\xff")]).err(), Some(400));
        assert_eq!(
            head("/", &[("transfer-encoding", b"chunked"), ("content-length", b"3")]).err(),
            Some(411)
        );
    }

    #[test]
    fn the_body_of_a_change_is_read_up_to_a_limit() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let read = |length: Option<usize>, kind: &str, body: &[u8]| {
            let head = Head { length, content_type: Some(kind.into()), ..Head::default() };
            let body = http_body_util::Full::new(Bytes::copy_from_slice(body));
            runtime.block_on(json_body(&head, body)).map_err(|refused| refused.status().as_u16())
        };
        assert_eq!(read(Some(3), "application/json", b"abc"), Ok(b"abc".to_vec()));
        assert_eq!(read(Some(3), "application/json; charset=utf-8", b"abc"), Ok(b"abc".to_vec()));
        assert_eq!(read(None, "application/json", b"abc"), Err(411));
        assert_eq!(read(Some(MAX_BODY + 1), "application/json", b"abc"), Err(413));
        assert_eq!(read(Some(3), "application/json", &[b'x'; MAX_BODY + 1]), Err(400));
        assert_eq!(read(Some(3), "text/plain", b"abc"), Err(415));
    }

    proptest! {
        #[test]
        fn no_fields_make_it_panic(values in prop::collection::vec((0usize..8, prop::collection::vec(32u8..127, 0..30)), 0..6)) {
            let names = ["host", "authorization", "origin", "sec-fetch-site", "content-type", "cookie",
                "content-length", "transfer-encoding"];
            let fields: Vec<(&str, &[u8])> =
                values.iter().map(|(name, value)| (names[*name], value.as_slice())).collect();
            let _ = head("/status", &fields).map(|head| (head.is_own_page(), head.is_foreign_page()));
        }
    }
}
