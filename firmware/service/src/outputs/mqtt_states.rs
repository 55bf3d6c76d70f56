//! What the broker is to know: retained states of rules and lines, and Home Assistant's descriptions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::settings::MqttConfig;
use crate::names::SharedNames;

/// Where it stands whether the service is there.
pub(super) fn availability(config: &MqttConfig) -> String {
    format!("{}/availability", config.topic)
}

/// What the broker should know and what it was told.
#[derive(Default)]
pub(super) struct States {
    /// Of each camera.
    names: Vec<SharedNames>,
    /// Whether each rule is active, and how many things it has counted.
    rules: Vec<(bool, u64)>,
    lines: Vec<(String, Option<bool>)>,
    /// Retained messages by topic.
    wanted: BTreeMap<String, Vec<u8>>,
    /// What was last sent; `None` if it may be lost.
    told: BTreeMap<String, Option<Vec<u8>>>,
    /// The connection that `told` belongs to.
    connection: u64,
    pub(super) settled: bool,
}

impl States {
    /// Compares with the rules and lines; allocates only when something has changed.
    pub(super) fn look<'a>(
        &mut self,
        config: &MqttConfig,
        names: &[&SharedNames],
        rules: impl Iterator<Item = (bool, u64)>,
        levels: impl Iterator<Item = (&'a str, Option<bool>)>,
    ) {
        let is_same = |(known, new): (&SharedNames, &&SharedNames)| Arc::ptr_eq(known, new);
        let mut changed = self.names.len() != names.len() || !self.names.iter().zip(names).all(is_same);
        if changed {
            self.names = names.iter().copied().cloned().collect();
            self.rules = vec![(false, 0); names.iter().map(|names| names.rules.len()).sum()];
        }
        for (known, state) in self.rules.iter_mut().zip(rules) {
            changed |= std::mem::replace(known, state) != state;
        }
        let mut count = 0;
        for (name, level) in levels {
            match self.lines.get_mut(count) {
                Some(line) if line.0 == name => changed |= std::mem::replace(&mut line.1, level) != level,
                _ => {
                    self.lines.truncate(count);
                    self.lines.push((name.to_owned(), level));
                    changed = true;
                }
            }
            count += 1;
        }
        changed |= self.lines.len() > count;
        self.lines.truncate(count);
        if changed {
            self.wanted = wanted(config, &self.names, &self.rules, &self.lines);
            self.settled = false;
        }
    }

    /// Publishes differences until `publish` has no room.
    pub(super) fn tell(&mut self, connection: u64, mut publish: impl FnMut(&str, Vec<u8>) -> bool) {
        if connection != self.connection {
            self.connection = connection;
            self.told.values_mut().for_each(|payload| *payload = None);
            self.settled = false;
        }
        if self.settled {
            return;
        }
        for (topic, payload) in &self.wanted {
            if self.told.get(topic).is_some_and(|told| told.as_ref() == Some(payload)) {
                continue;
            }
            if !publish(topic, payload.clone()) {
                return;
            }
            self.told.insert(topic.clone(), Some(payload.clone()));
        }
        // An empty retained message deletes what the broker keeps.
        let Self { wanted, told, settled, .. } = self;
        told.retain(|topic, _| wanted.contains_key(topic) || !publish(topic, vec![]));
        *settled = told.len() == wanted.len();
    }
}

/// The retained messages.
fn wanted(
    config: &MqttConfig,
    names: &[SharedNames],
    rules: &[(bool, u64)],
    lines: &[(String, Option<bool>)],
) -> BTreeMap<String, Vec<u8>> {
    let mut messages = BTreeMap::from([(availability(config), b"online".to_vec())]);
    let model = names.first().map_or("", |names| names.model.as_str());
    let facts = names.iter().flat_map(|names| &names.rules);
    let rules = facts.zip(rules).map(|(rule, (active, count))| ("rule", &rule.name, Some(*active), *count));
    let lines = lines.iter().map(|(name, level)| ("line", name, *level, 0));
    for (kind, name, state, count) in rules.chain(lines) {
        let mut level = plain(name);
        while messages.contains_key(&format!("{}/{kind}/{level}", config.topic)) {
            level.push('_');
        }
        let topic = format!("{}/{kind}/{level}", config.topic);
        // Home Assistant takes `None` for unknown.
        let payload = state.map_or("None", |state| if state { "ON" } else { "OFF" });
        let told = |component: &str, what: &str, topic: &str, more: serde_json::Value| {
            let prefix = config.discovery.as_ref()?;
            let identifier = format!("{kind}_{level}{}", what.replace(' ', "_"));
            let mut sensor = json!({
                "name": format!("{kind} {name}{what}"),
                "unique_id": format!("{}_{identifier}", config.client_id),
                "state_topic": topic,
                "availability_topic": availability(config),
                "device": {
                    "identifiers": [config.client_id],
                    "name": config.client_id,
                    "manufacturer": "resight",
                    "model": model,
                    "sw_version": env!("CARGO_PKG_VERSION"),
                },
            });
            if let (Some(sensor), serde_json::Value::Object(more)) = (sensor.as_object_mut(), more) {
                sensor.extend(more);
            }
            let discovery = format!("{prefix}/{component}/{}/{identifier}/config", config.client_id);
            Some((discovery, sensor.to_string().into_bytes()))
        };
        let mut own: Vec<_> = told("binary_sensor", "", &topic, json!({})).into_iter().collect();
        // Only rules over boxes count things.
        if count > 0 {
            let counter = format!("{topic}/counted");
            own.extend(told("sensor", " counted", &counter, json!({ "state_class": "total_increasing" })));
            own.push((counter, count.to_string().into_bytes()));
        }
        own.push((topic, payload.into()));
        messages.extend(own);
    }
    messages
}

/// Up to 64 characters that topics and Home Assistant's identifiers can hold.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().take(64).map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::mqtt_fixtures::{config, names};

    /// What `tell` publishes with room for so many messages.
    fn told(states: &mut States, connection: u64, room: usize) -> Vec<(String, String)> {
        let mut messages = vec![];
        states.tell(connection, |topic, payload| {
            let fits = messages.len() < room;
            if fits {
                messages.push((topic.to_owned(), String::from_utf8(payload).unwrap()));
            }
            fits
        });
        messages
    }

    fn pairs(messages: &[(String, String)]) -> Vec<(&str, &str)> {
        messages.iter().map(|(topic, payload)| (topic.as_str(), payload.as_str())).collect()
    }

    #[test]
    fn states_are_told_once_and_again_after_a_loss() {
        let (config, names) = (config(None), names(&["cat", "dog"]));
        let mut states = States::default();
        let lamp = |level| [("lamp", level)].into_iter();
        states.look(&config, &[&names], [(false, 0); 2].into_iter(), lamp(None));
        let all = [
            ("r/availability", "online"),
            ("r/line/lamp", "None"),
            ("r/rule/cat", "OFF"),
            ("r/rule/dog", "OFF"),
        ];
        // Without room for all, the rest follows.
        assert_eq!(pairs(&told(&mut states, 1, 3)), all[..3]);
        assert_eq!(pairs(&told(&mut states, 1, 3)), all[3..]);
        assert!(told(&mut states, 1, 9).is_empty());
        states.look(&config, &[&names], [(false, 0), (true, 0)].into_iter(), lamp(Some(true)));
        assert_eq!(pairs(&told(&mut states, 1, 9)), [("r/line/lamp", "ON"), ("r/rule/dog", "ON")]);
        states.look(&config, &[&names], [(false, 0), (true, 0)].into_iter(), lamp(Some(true)));
        assert!(told(&mut states, 1, 9).is_empty());
        assert_eq!(told(&mut states, 2, 9).len(), 4);
    }

    #[test]
    fn what_a_reload_removes_is_deleted_even_after_a_loss() {
        let config = config(Some("ha"));
        let mut states = States::default();
        states.look(
            &config,
            &[&names(&["cat"])],
            [(false, 0)].into_iter(),
            [("lamp", Some(false))].into_iter(),
        );
        let messages = told(&mut states, 1, 9);
        assert_eq!(messages.len(), 5);
        let sensor: serde_json::Value = serde_json::from_str(&messages[1].1).unwrap();
        assert_eq!(messages[1].0, "ha/binary_sensor/id/rule_cat/config");
        assert_eq!(
            (sensor["state_topic"].as_str(), sensor["unique_id"].as_str()),
            (Some("r/rule/cat"), Some("id_rule_cat"))
        );
        assert_eq!(sensor["availability_topic"], "r/availability");
        states.look(&config, &[&names(&[])], [].into_iter(), [].into_iter());
        let messages = told(&mut states, 2, 9);
        assert_eq!(messages.len(), 5, "{messages:?}");
        assert_eq!(messages.iter().filter(|(_, payload)| payload.is_empty()).count(), 4);
        assert!(told(&mut states, 2, 9).is_empty());
    }

    #[test]
    fn what_a_rule_has_counted_is_told_once_there_is_something() {
        let (config, names) = (config(Some("ha")), names(&["gate"]));
        let mut states = States::default();
        let mut look = |count: u64| {
            states.look(&config, &[&names], [(false, count)].into_iter(), [].into_iter());
            told(&mut states, 1, 9)
        };
        let topics: Vec<String> = look(0).into_iter().map(|(topic, _)| topic).collect();
        assert_eq!(topics, ["ha/binary_sensor/id/rule_gate/config", "r/availability", "r/rule/gate"]);
        let messages = look(3);
        let sensor: serde_json::Value = serde_json::from_str(&messages[0].1).unwrap();
        assert_eq!(messages[0].0, "ha/sensor/id/rule_gate_counted/config");
        assert_eq!(sensor["state_topic"], "r/rule/gate/counted");
        assert_eq!(sensor["state_class"], "total_increasing");
        assert_eq!(pairs(&messages[1..]), [("r/rule/gate/counted", "3")]);
        assert_eq!(pairs(&look(4)), [("r/rule/gate/counted", "4")]);
    }

    #[test]
    fn names_that_look_alike_in_a_topic_stay_apart() {
        let mut states = States::default();
        let names = names(&["a/b", "a b", "a+#"]);
        states.look(&config(None), &[&names], [(false, 0); 3].into_iter(), [].into_iter());
        let messages = told(&mut states, 1, 9);
        let topics: Vec<&str> = messages.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(topics, ["r/availability", "r/rule/a__", "r/rule/a_b", "r/rule/a_b_"]);
    }
}
