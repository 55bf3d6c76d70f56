//! Names in `.local`, which only multicast DNS knows: one question as RFC 6762 5.1 has it.
//!
//! The static program has nothing of the system's that could ask, and boards often have nothing
//! either. The question goes out by every interface, from a port of its own, so that whoever has
//! the name answers to us alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_ip_multicast_if_with_ifindex, set_ip_multicast_ttl};

/// Where everybody listens.
const EVERYBODY: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often the question is asked meanwhile: packets get lost, more so over Wi-Fi.
const AGAIN: Duration = Duration::from_secs(1);

/// Most interfaces that are asked by.
const INTERFACES: usize = 16;

/// Most records of an answer that are looked at.
const RECORDS: usize = 64;

/// Most pointers of a compressed name that are followed.
const POINTERS: usize = 16;

const A: u16 = 1;
const AAAA: u16 = 28;

/// Whether a name is one that only multicast DNS knows.
pub(super) fn is_multicast_name(host: &str) -> bool {
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".local")
}

/// The address of a host: by the system, or else, of a name in `.local`, by multicast DNS. Takes
/// some seconds if nobody answers.
///
/// # Errors
/// A name that neither knows; the system's reason.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let system = (plain, port).to_socket_addrs().and_then(|mut found| {
        found.next().ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the name has no address"))
    });
    match system {
        Err(error) if is_multicast_name(plain) => match ask(plain, PATIENCE) {
            Ok(Some(address)) => Ok(SocketAddr::new(address, port)),
            Ok(None) => Err(error),
            Err(other) => Err(io::Error::new(other.kind(), format!("{error}; multicast DNS: {other}"))),
        },
        other => other,
    }
}

/// Asks by all interfaces.
fn ask(name: &str, patience: Duration) -> io::Result<Option<IpAddr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // Not beyond this network.
    set_ip_multicast_ttl(&socket, 255)?;
    let interfaces = interfaces();
    let send = |question: &[u8]| {
        let mut sent = Err(io::Error::new(ErrorKind::NetworkUnreachable, "there is no network"));
        for interface in &interfaces {
            let by = set_ip_multicast_if_with_ifindex(
                &socket,
                &Ipv4Addr::UNSPECIFIED,
                &Ipv4Addr::UNSPECIFIED,
                *interface,
            );
            // One that is down does not matter if another one is up.
            let result = by.map_err(io::Error::from).and_then(|()| socket.send_to(question, EVERYBODY));
            sent = sent.or(result.map(drop));
        }
        sent
    };
    converse(&socket, name, patience, send)
}

/// Numbers of the interfaces.
fn interfaces() -> Vec<u32> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().filter_map(Result::ok);
    let number = |entry: fs::DirEntry| {
        fs::read_to_string(entry.path().join("ifindex")).ok()?.trim().parse::<u32>().ok()
    };
    let mut numbers: Vec<u32> = entries.filter_map(number).take(INTERFACES).collect();
    numbers.sort_unstable();
    // 0 is the one that the routes choose.
    if numbers.is_empty() { vec![0] } else { numbers }
}

/// Asks with `send` and waits for an answer.
fn converse(
    socket: &UdpSocket,
    name: &str,
    patience: Duration,
    send: impl Fn(&[u8]) -> io::Result<()>,
) -> io::Result<Option<IpAddr>> {
    let id = (std::process::id() ^ name.len() as u32) as u16;
    let question = question(id, name)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "this is no name of a host"))?;
    let end = Instant::now() + patience;
    let mut next = Instant::now();
    let mut second = None;
    let mut packet = [0; 9000];
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(second);
        }
        if now >= next {
            send(&question)?;
            next = now + AGAIN;
        }
        let left = next.min(end).saturating_duration_since(now).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut packet) {
            Ok(length) => match answer(&packet[..length], id, name) {
                Some(address @ IpAddr::V4(_)) => return Ok(Some(address)),
                // The other kind may follow in another packet.
                Some(address) => second = Some(address),
                None => {}
            },
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if second.is_some() {
                    return Ok(second);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A packet that asks for the addresses of `name`; `None` if it is no name.
fn question(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut labels = vec![];
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        labels.push(length);
        labels.extend(label.as_bytes());
    }
    labels.push(0);
    if labels.len() > 255 {
        return None;
    }
    // Two questions, no flags.
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
    for kind in [A, AAAA] {
        packet.extend(&labels);
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
    }
    Some(packet)
}

/// The address that a packet gives for `name`, one of IPv4 before one of IPv6.
fn answer(packet: &[u8], id: u16, name: &str) -> Option<IpAddr> {
    let number = |at: usize| packet.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let flags = number(2)?;
    // An answer to our question, without an error.
    if number(0)? != id || flags & 0x8000 == 0 || flags & 0xf != 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..number(4)?.min(RECORDS as u16) {
        at = read_name(packet, at)?.1 + 4;
    }
    let records = usize::from(number(6)?) + usize::from(number(8)?) + usize::from(number(10)?);
    let wanted = name.trim_end_matches('.').to_ascii_lowercase();
    let mut second = None;
    for _ in 0..records.min(RECORDS) {
        let (owner, after) = read_name(packet, at)?;
        let (kind, class, length) = (number(after)?, number(after + 2)?, usize::from(number(after + 8)?));
        let data = packet.get(after + 10..after + 10 + length)?;
        at = after + 10 + length;
        // The upper bit of the class says that older answers are void.
        if owner != wanted || class & 0x7fff != 1 {
            continue;
        }
        if let (A, Ok(bytes)) = (kind, <[u8; 4]>::try_from(data)) {
            return Some(Ipv4Addr::from(bytes).into());
        }
        if let (AAAA, Ok(bytes)) = (kind, <[u8; 16]>::try_from(data)) {
            let address = Ipv6Addr::from(bytes);
            // Of one network alone, which a connection would have to name.
            if !address.is_unicast_link_local() {
                second = second.or(Some(address.into()));
            }
        }
    }
    second
}

/// A name, in small letters, and where it ends.
fn read_name(packet: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut name, mut at, mut end, mut pointers) = (String::new(), start, None, 0);
    loop {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = packet.get(at + 1..at + 1 + length)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                if name.len() > 1024 {
                    return None;
                }
                at += 1 + length;
            }
            _ if length & 0xc0 == 0xc0 => {
                end = end.or(Some(at + 2));
                at = (length & 0x3f) << 8 | usize::from(*packet.get(at + 1)?);
                pointers += 1;
                if pointers > POINTERS {
                    return None;
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer: the questions again, then an alias, an address of IPv6 and one of IPv4, whose names
    /// point to the question's.
    fn reply(question: &[u8], v4: Option<[u8; 4]>) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2] = 0x84;
        packet[7] = 2 + u8::from(v4.is_some());
        let record = |kind: u16, data: &[u8]| {
            let mut record = vec![0xc0, 12];
            record.extend(kind.to_be_bytes());
            record.extend([0x80, 1, 0, 0, 0, 120]);
            record.extend((data.len() as u16).to_be_bytes());
            record.extend(data);
            record
        };
        packet.extend(record(AAAA, &Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9).octets()));
        packet.extend(record(AAAA, &Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9).octets()));
        packet.extend(v4.into_iter().flat_map(|address| record(A, &address)));
        packet
    }

    #[test]
    fn a_question_is_what_rfc_1035_says() {
        let packet = question(0x1234, "Box.local.").unwrap();
        let name = b"\x03Box\x05local\0";
        let expected =
            [&b"\x12\x34\0\0\0\x02\0\0\0\0\0\0"[..], name, &[0, 1, 0, 1], name, &[0, 28, 0, 1]].concat();
        assert_eq!(packet, expected);
        assert_eq!(question(1, &format!("{}.local", "x".repeat(64))), None);
        assert_eq!(question(1, "a..local"), None);
        assert_eq!(question(1, &"abcdefgh.".repeat(40)), None);
    }

    #[test]
    fn an_answer_gives_the_address_of_ipv4_before_others() {
        let question = question(7, "box.local").unwrap();
        let found = |packet: &[u8]| answer(packet, 7, "BOX.local");
        assert_eq!(found(&reply(&question, Some([192, 0, 2, 9]))), Some(Ipv4Addr::new(192, 0, 2, 9).into()));
        assert_eq!(found(&reply(&question, None)), Some("fd00::9".parse().unwrap()));
        assert_eq!(found(&question), None, "our own question");
        assert_eq!(answer(&reply(&question, Some([1; 4])), 8, "box.local"), None, "of another question");
        assert_eq!(answer(&reply(&question, Some([1; 4])), 7, "box2.local"), None);
        let whole = reply(&question, Some([1; 4]));
        for length in 0..whole.len() {
            assert_eq!(found(&whole[..length]).filter(IpAddr::is_ipv4), None, "{length}");
        }
        // A name that points to itself.
        let mut circle = whole;
        circle[12..14].copy_from_slice(&[0xc0, 12]);
        assert_eq!(found(&circle), None);
    }

    #[test]
    fn rubbish_gives_nothing_and_ends() {
        let mut random = resight_fixtures::Random::new(3);
        let question = question(7, "box.local").unwrap();
        let whole = reply(&question, Some([192, 0, 2, 9]));
        for _ in 0..20_000 {
            let mut packet = whole.clone();
            for byte in random.bytes(3) {
                let at = random.below(packet.len());
                packet[at] = byte;
            }
            answer(&packet, 7, "box.local");
        }
    }

    /// Somebody who answers the second question, after rubbish.
    #[test]
    fn the_question_is_asked_again_and_rubbish_is_passed_over() {
        let responder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = responder.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            let mut packet = [0; 512];
            responder.recv_from(&mut packet).unwrap();
            let (length, from) = responder.recv_from(&mut packet).unwrap();
            responder.send_to(b"rubbish", from).unwrap();
            let question = packet[..length].to_vec();
            responder.send_to(&question, from).unwrap();
            responder.send_to(&reply(&question, Some([10, 0, 0, 7])), from).unwrap();
        });
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |question: &[u8]| socket.send_to(question, there).map(drop);
        let found = converse(&socket, "box.local", Duration::from_mins(1), send).unwrap();
        assert_eq!(found, Some(Ipv4Addr::new(10, 0, 0, 7).into()));
        answers.join().unwrap();
        // Nobody answers.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = silent.local_addr().unwrap();
        let send = |question: &[u8]| socket.send_to(question, there).map(drop);
        assert_eq!(converse(&socket, "box.local", Duration::from_millis(50), send).unwrap(), None);
        let error = converse(&socket, "a..local", Duration::from_millis(50), send).unwrap_err().to_string();
        assert_eq!(error, "this is no name of a host");
    }

    #[test]
    fn names_that_the_system_knows_are_not_asked_for() {
        assert!(is_multicast_name("Home.LOCAL.") && !is_multicast_name("broker.lan"));
        assert_eq!(resolve("127.0.0.1", 1).unwrap(), "127.0.0.1:1".parse().unwrap());
        assert_eq!(resolve("[::1]", 1).unwrap(), "[::1]:1".parse().unwrap());
        resolve("no-such-board.invalid", 1).unwrap_err();
    }
}
