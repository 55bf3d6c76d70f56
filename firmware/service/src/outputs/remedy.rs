//! What to do when a broker cannot be reached, for the log and for `resightd check`.

use super::multicast_dns::{is_multicast_name, resolve};

/// What to do about an error of the connection to the broker at `host`, with a port or without, to be put behind it; empty where
/// the error says enough.
pub(crate) fn remedy(error: &str, host: &str) -> &'static str {
    let says = |word: &str| error.contains(word);
    if says("CaUsedAsEndEntity") {
        "; the broker shows the certificate of a CA itself: make one for the broker that this CA signs, \
         see docs/guides/troubleshooting.md"
    } else if says("UnknownIssuer") {
        "; `ca_file` in [output.mqtt] must name the certificate of the CA that signed the broker's"
    } else if says("NotValidForName") {
        "; `url` in [output.mqtt] must have a name that the broker's certificate is for"
    } else if is_multicast_name(host.split(':').next().unwrap_or_default())
        && (says("lookup") || says("not known") || says("resolution"))
    {
        "; nobody answers to this name by multicast DNS either: is the broker on, in the same network, and may the \
         service reach 224.0.0.251 (network.conf)? Else give its address, or add the name to /etc/hosts"
    } else {
        ""
    }
}

/// What is wrong with the name of a broker, if it cannot be resolved now. Asks the system and, for names
/// in `.local`, multicast DNS, which may take seconds.
pub(crate) fn unresolved(host: &str, port: u16) -> Option<String> {
    let error = resolve(host, port).err()?;
    Some(format!("the broker {host} cannot be found now: {error}{}", remedy("lookup", host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_say_too_little_come_with_what_to_do() {
        let tls = |error: &str| format!("I/O: invalid peer certificate: {error}");
        assert!(remedy(&tls("Other(OtherError(CaUsedAsEndEntity))"), "a").contains("that this CA signs"));
        assert!(remedy(&tls("UnknownIssuer"), "a").contains("`ca_file`"));
        assert!(remedy(&tls("NotValidForName"), "a").contains("`url`"));
        let lookup = "I/O: failed to lookup address information: Name or service not known";
        assert!(remedy(lookup, "homeassistant.local:1883").contains("multicast DNS"));
        assert!(remedy(lookup, "Home.LOCAL.").contains("/etc/hosts"));
        assert_eq!(remedy(lookup, "broker.lan"), "");
        assert_eq!(remedy("Connection refused", "homeassistant.local"), "");
    }

    #[test]
    fn addresses_need_no_names() {
        assert_eq!(unresolved("127.0.0.1", 1883), None);
        assert_eq!(unresolved("[::1]", 1883), None);
        let told = unresolved("no-such-board.invalid", 1883).unwrap();
        assert!(told.starts_with("the broker no-such-board.invalid cannot be found now: "), "{told}");
    }
}
