//! Networks with something taught at their end.

use super::*;

/// Writes a model into a folder.
type Make = fn(&Path);

#[test]
fn frames_allocate_nothing_with_what_was_taught() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(Make, &str); 2] = [(model_of_anomalies, "anomaly"), (model_with_unknown, "unknown")];
    for (write, class) in cases {
        write(folder.path());
        let text = configuration(1, "rgb24", "").replace("thing*", class);
        let mut jig = Jig::new(folder.path(), &text);
        let mut captured = Frame::new();
        let threads = jig.engine.network.threads();
        let mut frame = move || {
            halves(&mut captured);
            jig.put(0, &mut captured);
            jig.go_on();
            assert!(matches!(jig.step(), Step::Again));
            while jig.tell.pop().is_some() {}
        };
        let counts = threads.enter(|| {
            (0..10).for_each(|_| frame());
            allocation_counter::measure(|| (0..100).for_each(|_| frame()))
        });
        // What makes the frame is the test's own: the pixels, once each.
        let own = allocation_counter::measure(|| (0..100).for_each(|_| halves(&mut Frame::new())));
        assert!(counts.count_total <= own.count_total, "{class}: {} {}", counts.count_total, own.count_total);
    }
}

/// From the map to the status and the event, in shares of the frame.
#[test]
fn an_anomaly_is_shown_and_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    model_of_anomalies(folder.path());
    for (image, turned) in [("", false), ("[image]\nrotate = 90\nmirror = true\n", true)] {
        let text = configuration(1, "rgb24", image)
            .replace("thing*", "anomaly")
            .replace("pulse_ms = 1\n", "pulse_ms = 1\nthreshold = 0.001\n");
        let mut jig = Jig::new(folder.path(), &text);
        let mut captured = Frame::new();
        halves(&mut captured);
        jig.put(0, &mut captured);
        assert!(matches!(jig.step(), Step::Again));
        let seen = jig.reach.board.figures().anomalies;
        let [anomaly] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((anomaly.region.as_deref(), anomaly.map.len()), (None, anomaly.size[0] * anomaly.size[1]));
        // The centre of 64 x 48 pixels is seen, as high as the crop of the resized frame is.
        let [left, top, width, height] = anomaly.covers;
        assert!(
            (left + width / 2.0 - 0.5).abs() < 0.02 && (top + height / 2.0 - 0.5).abs() < 0.02,
            "{anomaly:?}"
        );
        assert!((width * 64.0 / (height * 48.0) - 1.0).abs() < 0.05, "{anomaly:?}");
        // The farthest place of the map is within the area that is told.
        let farthest =
            (0..anomaly.map.len()).max_by(|a, b| anomaly.map[*a].total_cmp(&anomaly.map[*b])).unwrap();
        let [row, column] = [farthest / anomaly.size[1], farthest % anomaly.size[1]];
        let x = left + width * (column as f64 + 0.5) / anomaly.size[1] as f64;
        let y = top + height * (row as f64 + 0.5) / anomaly.size[0] as f64;
        let area = anomaly.area;
        assert!(
            area[0] < x && x < area[0] + area[2] && area[1] < y && y < area[1] + area[3],
            "{turned} {anomaly:?}"
        );
        let event = jig.tell.pop().unwrap().json();
        assert_eq!((&event["name"], &event["rule"]), (&"anomaly".into(), &"any".into()), "{event}");
        let told: Vec<f32> = serde_json::from_value(event["area"].clone()).unwrap();
        assert!(told.iter().zip(area).all(|(told, area)| (f64::from(*told) - area).abs() < 1e-6), "{event}");
        assert!((event["score"].as_f64().unwrap() - anomaly.probability).abs() < 1e-6);
    }
}
