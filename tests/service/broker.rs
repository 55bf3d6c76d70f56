//! A broker of MQTT 3.1.1 that remembers what it was told.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::harness::*;

/// A message that a broker was told: topic, payload, and whether it should be retained.
pub(crate) type Message = (String, String, bool);

/// A broker for one client at a time: it answers what MQTT 3.1.1 demands and remembers the rest.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) told: Arc<Mutex<Vec<Message>>>,
    /// The bodies of CONNECT packets, as text.
    pub(crate) greetings: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Broker {
    pub(crate) fn start(port: u16, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut broker = Self {
            address: listener.local_addr().unwrap(),
            told: Arc::default(),
            greetings: Arc::default(),
            stop: Arc::default(),
            thread: None,
        };
        let (told, greetings, stop) = (broker.told.clone(), broker.greetings.clone(), broker.stop.clone());
        broker.thread = Some(thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                // A lost connection is what some tests are about.
                let _ = match &tls {
                    None => serve(stream, &stop, &told, &greetings),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(tls.clone()).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &stop, &told, &greetings)
                    }
                };
            }
        }));
        broker
    }

    pub(crate) fn expect(&self, topic: &str, payload: impl Fn(&str) -> bool) -> Message {
        wait_for(topic, || {
            let told = self.told.lock().unwrap();
            let found = told.iter().find(|(other, text, _)| other == topic && payload(text));
            found.cloned().ok_or_else(|| format!("{told:#?}"))
        })
    }

    /// The last payload of a topic.
    pub(crate) fn last(&self, topic: &str) -> Option<String> {
        self.told
            .lock()
            .unwrap()
            .iter()
            .rfind(|(other, ..)| other == topic)
            .map(|(_, payload, _)| payload.clone())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = self.thread.take().unwrap().join();
    }
}

fn read_exact(stream: &mut impl io::Read, buffer: &mut [u8], stop: &AtomicBool) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !stop.load(Ordering::SeqCst) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn serve(
    mut stream: impl io::Read + io::Write,
    stop: &AtomicBool,
    told: &Mutex<Vec<Message>>,
    greetings: &Mutex<Vec<String>>,
) -> io::Result<()> {
    loop {
        let mut byte = [0];
        read_exact(&mut stream, &mut byte, stop)?;
        let kind = byte[0];
        let mut length = 0;
        for shift in (0..28).step_by(7) {
            read_exact(&mut stream, &mut byte, stop)?;
            length |= usize::from(byte[0] & 127) << shift;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        read_exact(&mut stream, &mut body, stop)?;
        match kind >> 4 {
            1 => {
                greetings.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
                stream.write_all(&[0x20, 2, 0, 0])?;
            }
            3 => {
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let confirmed = kind & 6 != 0;
                if confirmed {
                    stream.write_all(&[0x40, 2, body[end], body[end + 1]])?;
                }
                let payload = &body[if confirmed { end + 2 } else { end }..];
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                told.lock().unwrap().push((text(&body[2..end]), text(payload), kind & 1 == 1));
            }
            12 => stream.write_all(&[0xd0, 0])?,
            14 => return Ok(()),
            other => panic!("packet {other}"),
        }
        stream.flush()?;
    }
}

/// What a broker keeps for a topic.
pub(crate) fn retained(port: u16, topic: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    stream.write_all(&[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 2, b't', b'1']).ok()?;
    let length = topic.len() as u8;
    stream.write_all(&[&[0x82, length + 5, 0, 1, 0, length], topic.as_bytes(), &[0]].concat()).ok()?;
    let mut answer = vec![];
    let mut chunk = [0; 1000];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        answer.extend_from_slice(&chunk[..read]);
    }
    let at = answer.windows(topic.len()).position(|bytes| bytes == topic.as_bytes())?;
    String::from_utf8(answer[at + topic.len()..].to_vec()).ok()
}
