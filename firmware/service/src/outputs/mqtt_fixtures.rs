//! What the tests of MQTT publish, and where to.

use std::sync::Arc;
use std::time::Duration;

use resight_model_file::Labels;

use super::settings::MqttConfig;
use crate::names::{Names, SharedNames};

pub(super) fn config(discovery: Option<&str>) -> MqttConfig {
    MqttConfig {
        host: "127.0.0.1".into(),
        port: 1,
        encrypted: false,
        ca_file: None,
        username: None,
        password_file: None,
        client_id: "id".into(),
        topic: "r".into(),
        discovery: discovery.map(str::to_owned),
        keep_alive: Duration::from_secs(30),
    }
}

pub(super) fn names(rules: &[&str]) -> SharedNames {
    let facts = |rule: &str| resight_status::RuleFacts { name: rule.to_owned(), ..Default::default() };
    Arc::new(Names {
        camera: None,
        model: "net".into(),
        isa: "generic",
        rules: rules.iter().map(|rule| facts(rule)).collect(),
        labels: Labels::parse("l", b"n00000001 a\n").unwrap(),
        colours: vec![],
        links: vec![],
        view: resight_status::View::default(),
    })
}
