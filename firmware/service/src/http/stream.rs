//! Server-sent events: state, figures, scores and events for one viewer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::access::{Access, Context};
use crate::judge::{SeenBox, SeenMask, SeenPoint, Standing};
use crate::live::{Sample, Viewer};
use crate::names::{Names, SharedNames};
use crate::status::StatusBoard;

/// How often a viewer is told what is new.
const PERIOD: Duration = Duration::from_millis(100);

/// How often the figures are sent.
const FIGURES_PERIOD: Duration = Duration::from_secs(1);

/// How long a browser waits before it connects again, as the format wants it.
const RETRY: &str = "retry: 2000\n\n";

/// Tells a viewer what happens, until it is gone, the service stops, or others than `access`
/// says are to be answered.
pub(super) async fn stream(
    sender: Sender<Bytes>,
    mut viewer: Viewer,
    access: Arc<Access>,
    context: Arc<Context>,
) {
    let reach = &context.reach;
    let mut text = RETRY.to_owned();
    let (mut shown, mut figures_due) = (String::new(), Instant::now());
    // Numbers of the frames whose masks were sent, of each camera.
    let mut masks = vec![];
    while !context.stopping() && context.is_current(&access) {
        let begun = Instant::now();
        let (events, missed) = viewer.events();
        let mut state = reach.board.state();
        state.switches = Some(access.switches);
        let state = json!(state).to_string();
        if state != shown {
            push(&mut text, "state", &state);
            shown = state;
        }
        if missed > 0 {
            reach.telemetry.http_missed.add(missed);
            push(&mut text, "missed", &json!({ "events": missed }).to_string());
        }
        for event in events {
            push(&mut text, "event", event.trim_end());
        }
        push_masks(&mut text, &reach.board, &mut masks);
        let samples = viewer.samples();
        if !samples.is_empty() {
            push(&mut text, "scores", &scores(&samples, &reach.board).to_string());
        }
        if begun >= figures_due {
            figures_due = begun + FIGURES_PERIOD;
            push(&mut text, "figures", &json!(reach.board.figures()).to_string());
        }
        // Waits until there is room.
        if !text.is_empty() && sender.send(std::mem::take(&mut text).into()).await.is_err() {
            return;
        }
        sleep(PERIOD.saturating_sub(begun.elapsed())).await;
    }
}

/// The masks of each camera, where they are of another frame than the last ones that were sent.
fn push_masks(text: &mut String, board: &StatusBoard, sent: &mut Vec<u64>) {
    let cameras = board.cameras();
    sent.resize(cameras.len(), 0);
    for (camera, sent) in cameras.iter().zip(sent) {
        let Some(shown) = camera.masks_after(*sent) else { continue };
        *sent = shown.frame;
        let names = camera.names();
        let masks: Value = shown.masks.iter().map(|mask| layer(mask, &names)).collect();
        let mut value = json!({ "frame": shown.frame, "masks": masks });
        if let Some(camera) = &names.camera {
            value["camera"] = json!(camera);
        }
        push(text, "masks", &value.to_string());
    }
}

/// A mask: what it covers, its height and width, the classes that it has with their colours, and runs of
/// `[index among these, length]`, row by row.
fn layer(mask: &SeenMask, names: &Names) -> Value {
    let mut present: Vec<u8> = mask.classes.clone();
    present.sort_unstable();
    present.dedup();
    let class = |class: &u8| {
        let index = usize::from(*class);
        let [red, green, blue] = names.colours.get(index).copied().unwrap_or_default();
        json!([names.labels.name(index), red, green, blue])
    };
    let run = |run: &[u8]| json!([present.binary_search(&run[0]).unwrap_or_default(), run.len()]);
    json!({
        "covers": mask.covers.map(short),
        "size": mask.size,
        "classes": present.iter().map(class).collect::<Value>(),
        "runs": mask.classes.chunk_by(|a, b| a == b).map(run).collect::<Value>(),
    })
}

fn push(text: &mut String, event: &str, data: &str) {
    // JSON has no line ends of its own.
    text.extend(["event: ", event, "\ndata: ", data, "\n\n"]);
}

/// Which two of some points are joined: those of one thing that a link is between, in one part of the frame,
/// which has so many classes.
fn lines(points: &[SeenPoint], links: &[[usize; 2]], classes: usize) -> Vec<[usize; 2]> {
    let classes = classes.max(1);
    let mut lines = vec![];
    for (from, a) in points.iter().enumerate() {
        let first = a.class / classes * classes;
        for [_, other] in links.iter().filter(|link| first + link[0] == a.class) {
            let is_end = |b: &SeenPoint| b.class == first + other && b.thing == a.thing;
            lines.extend(points.iter().position(is_end).map(|to| [from, to]));
        }
    }
    lines
}

fn scores(samples: &[Sample], board: &StatusBoard) -> Value {
    let cameras: Vec<SharedNames> = board.cameras().iter().map(|camera| camera.names()).collect();
    let rule = |standing: &Standing| json!([standing.score.map(short), standing.hits, standing.active]);
    let sample = |sample: &Sample| {
        // One of a camera that a reload has taken away since.
        let names = cameras.get(sample.camera)?;
        let mut value = json!({
            "at_ms": sample.at.as_millis() as u64,
            "frame": sample.frame,
            "top": classes(&sample.top, names),
            "rules": sample.rules.iter().map(rule).collect::<Value>(),
        });
        if !sample.boxes.is_empty() {
            let seen = |seen: &SeenBox| {
                let [left, top, right, bottom] = seen.edges.map(short);
                let mut value = json!([names.class(seen.class), short(seen.score), left, top, right, bottom]);
                if let (Some(track), Some(values)) = (seen.track, value.as_array_mut()) {
                    values.push(json!(track));
                }
                value
            };
            value["boxes"] = sample.boxes.iter().map(seen).collect();
        }
        if !sample.points.is_empty() {
            let seen = |seen: &SeenPoint| {
                let [x, y] = seen.place.map(short);
                json!([names.class(seen.class), short(seen.score), x, y])
            };
            value["points"] = sample.points.iter().map(seen).collect();
            if !names.links.is_empty() {
                value["lines"] = json!(lines(&sample.points, &names.links, names.labels.len()));
            }
        }
        if let Some(camera) = &names.camera {
            value["camera"] = json!(camera);
        }
        Some(value)
    };
    samples.iter().filter_map(sample).collect()
}

/// Pairs of a class's name and its probability.
pub(super) fn classes(top: &[(usize, f32)], names: &Names) -> Value {
    top.iter().map(|(class, probability)| json!([names.class(*class), short(*probability)])).collect()
}

/// Four digits are more than can be seen.
fn short(probability: f32) -> f64 {
    (f64::from(probability) * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_one_thing_in_one_part_are_joined() {
        let point = |class, thing| SeenPoint { class, thing, score: 0.5, place: [0.0; 2] };
        // Two things in the first part of the frame, one in the second; the last point of one is missing.
        let points =
            [point(0, 0), point(0, 1), point(1, 0), point(1, 1), point(2, 1), point(3, 0), point(4, 0)];
        let found = lines(&points, &[[0, 1], [2, 1]], 3);
        assert_eq!(found, [[0, 2], [1, 3], [4, 3], [5, 6]]);
        assert_eq!(lines(&points, &[], 3), <[[usize; 2]; 0]>::default());
        assert_eq!(lines(&points[..1], &[[0, 1]], 0), <[[usize; 2]; 0]>::default());
    }
}
