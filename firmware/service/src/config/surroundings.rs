//! What a configuration means depends on the machine in two places. Both are looked up before it is
//! parsed, which then looks at nothing but the text.

use crate::http::TOKEN_VARIABLE;

/// Longest name of a machine that is taken, in characters.
const LONGEST: usize = 40;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Surroundings {
    /// The machine's name, as far as topics and identifiers can hold it.
    pub(super) host: String,
    /// Whether the environment holds a token for requests over HTTP.
    pub(super) has_token: bool,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { host: "board".into(), has_token: false }
    }
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_this_process() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::new(&name, std::env::var_os(TOKEN_VARIABLE).is_some())
    }

    fn new(name: &str, has_token: bool) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
        let host: String = name.chars().filter(plain).take(LONGEST).collect();
        if host.is_empty() { Self { has_token, ..Self::default() } } else { Self { host, has_token } }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    const TEXT: &str = "[model]\nfile = \"m\"\n[source]\nkind = \"mjpeg\"\npath = \"a\"\n[output]\n\
        http = \"0.0.0.0:80\"\n[output.mqtt]\nurl = \"mqtt://broker\"\n";

    #[test]
    fn a_configuration_depends_on_what_it_is_given_of_the_machine() {
        let parse = |surroundings| Config::parse_in(TEXT, Path::new(""), surroundings);
        let config = parse(Surroundings::new("porch_1.local\n", true)).unwrap();
        let mqtt = config.output.mqtt.unwrap();
        assert_eq!(
            (mqtt.client_id.as_str(), mqtt.topic.as_str()),
            ("resight-porch1local", "resight/porch1local")
        );
        let mistakes = parse(Surroundings::new("", false)).unwrap_err();
        assert!(
            mistakes[0].to_string().starts_with("7: output.http: others reach this address"),
            "{mistakes:?}"
        );
        let config = parse(Surroundings::new("\n", true)).unwrap();
        assert_eq!(config.output.mqtt.unwrap().topic, "resight/board");
    }
}
