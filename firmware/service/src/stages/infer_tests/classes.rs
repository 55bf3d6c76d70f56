//! Classes of a frame and of its regions, and when it is classified.

use super::*;

/// From the source's bytes to the lines and the event.
#[test]
fn a_frame_allocates_nothing_once_warm() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    for format in ["rgb24", "yuyv", "nv12", "rggb10"] {
        for threads in [1, 2] {
            let text = configuration(threads, format, "");
            let mut source = frames(folder.path(), format, &text);
            let mut jig = Jig::new(folder.path(), &text);
            let mut captured = Frame::new();
            let threads_of_the_loop = jig.engine.network.threads();
            let mut frame = move || {
                let next = source.next(&mut captured, Duration::from_mins(1)).unwrap();
                assert_eq!(next, crate::frame::Next::Frame);
                jig.put(0, &mut captured);
                jig.go_on();
                assert!(matches!(jig.step(), Step::Again));
                while jig.tell.pop().is_some() {}
            };
            let counts = threads_of_the_loop.enter(|| {
                (0..10).for_each(|_| frame());
                allocation_counter::measure(|| (0..200).for_each(|_| frame()))
            });
            assert_eq!(counts.count_total, 0, "{format}, {threads} threads");
        }
    }
}

#[test]
fn frames_are_classified_judged_and_shown_until_there_are_no_more() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let text = configuration(1, "rgb24", "");
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let camera = jig.camera();
    let telemetry = &camera.telemetry;
    assert!(matches!(jig.step(), Step::Wait(_)), "there is no frame");
    let mut captured = Frame::new();
    source.next(&mut captured, Duration::from_mins(1)).unwrap();
    captured.number = 7;
    jig.put(0, &mut captured);
    assert!(matches!(jig.step(), Step::Again));
    assert_eq!(telemetry.inferences.count(), 1);
    let last = jig.reach.board.figures().last.unwrap();
    assert_eq!((last.frame, last.probability > 0.0), (7, true));
    assert!(jig.camera().judged().active().all(|active| active));
    // Rubbish is counted, and nothing else.
    captured.bytes.clear();
    jig.go_on();
    jig.put(0, &mut captured);
    assert!(matches!(jig.step(), Step::Again));
    assert_eq!((telemetry.inferences.count(), telemetry.corrupt.count()), (1, 1));
    jig.engine.viewpoints[0].link.frames.close();
    assert!(matches!(jig.step(), Step::End));
}

#[test]
fn of_classes_that_do_not_exclude_each_other_each_has_its_own_probability() {
    let folder = tempfile::tempdir().unwrap();
    let scores = |write: fn(&Path)| {
        write(folder.path());
        let text = configuration(1, "rgb24", "");
        let mut source = frames(folder.path(), "rgb24", &text);
        let mut jig = Jig::new(folder.path(), &text);
        let mut captured = Frame::new();
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        jig.put(0, &mut captured);
        assert!(matches!(jig.step(), Step::Again));
        jig.engine.viewpoints[0].memory.scores.clone()
    };
    let (one, each) = (scores(model), scores(model_with_labels));
    assert!((one.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    // The softmax of the same logits: exp(logit) = p / (1 - p).
    let odds: Vec<f32> = each.iter().map(|p| p / (1.0 - p)).collect();
    let sum: f32 = odds.iter().sum();
    for (one, odds) in one.iter().zip(&odds) {
        assert!((one - odds / sum).abs() < 1e-4 * one.max(1e-2), "{one}, {}", odds / sum);
    }
}

#[test]
fn a_still_scene_is_judged_and_seldom_classified() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let text = configuration(1, "rgb24", "[pace]\non_change = true\nrefresh_ms = 86400000\n");
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let (mut captured, camera) = (Frame::new(), jig.camera());
    let telemetry = &camera.telemetry;
    let mut frame = |jig: &mut Jig, grey: Option<u8>| {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        if let Some(grey) = grey {
            captured.bytes.fill(grey);
        }
        captured.number += 1;
        jig.put(0, &mut captured);
        jig.go_on();
        assert!(matches!(jig.step(), Step::Again));
    };
    (0..30).for_each(|_| frame(&mut jig, None));
    let classified = telemetry.inferences.count();
    assert!(classified < 15 && classified + telemetry.unchanged.count() == 30, "{classified}");
    // Every one was judged, by the scores of the last inference.
    assert_eq!(telemetry.latency.read().count, 30);
    assert!(jig.camera().judged().active().all(|active| active));
    frame(&mut jig, Some(250));
    assert_eq!(telemetry.inferences.count(), classified + 1);
    // Others see no such number.
    assert!(jig.reach.board.prometheus().contains("resight_unchanged_total"));
    let other = Jig::new(folder.path(), &configuration(1, "rgb24", ""));
    assert!(!other.reach.board.prometheus().contains("unchanged"));
}

/// Rules of a region see that region alone, and so does what is told.
#[test]
fn regions_of_a_frame_are_classified_each_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let regions = "[[region]]\nname = \"left\"\narea = [0, 0, 0.5, 1]\n\
        [[region]]\nname = \"right\"\narea = [0.5, 0, 0.5, 1]\n";
    // Each half by itself, to compare with.
    let alone = |area: &str| {
        let image = format!("[image]\nregion = {area}\n");
        let text = configuration(1, "rgb24", &image);
        let mut jig = Jig::new(folder.path(), &text);
        jig.scores(halves)
    };
    let apart = [alone("[0, 0, 0.5, 1]"), alone("[0.5, 0, 0.5, 1]")].concat();
    let mut jig = Jig::new(folder.path(), &configuration(1, "rgb24", regions));
    assert_eq!(jig.scores(halves), apart);
    let mut frame = Frame::new();
    halves(&mut frame);
    frame.number = 3;
    jig.put(0, &mut frame);
    jig.go_on();
    assert!(matches!(jig.step(), Step::Again));
    let status = jig.reach.board.status();
    let names: Vec<&str> = status.state.rules.iter().map(|rule| rule.facts.name.as_str()).collect();
    assert_eq!(names, ["any/left", "any/right"]);
    assert!(status.state.rules.iter().all(|rule| rule.facts.classes[0].starts_with("thing")));
    let classes = apart.len() / 2;
    for (number, region) in status.figures.regions.iter().enumerate() {
        let scores = &apart[number * classes..(number + 1) * classes];
        let (class, probability) = likeliest(scores);
        assert_eq!((region.class, region.probability as f32), (class, probability), "{}", region.name);
        assert!(region.inference_ms > 0.0 && region.label.is_some());
    }
    assert_eq!(status.figures.regions.len(), 2);
    let mut told = 0;
    while let Some(event) = jig.tell.pop() {
        let event = event.json();
        let region = event["rule"].as_str().unwrap().strip_prefix("any/").unwrap();
        assert_eq!(event["region"], region, "{event}");
        assert!(event["class"].as_u64().unwrap() < classes as u64, "{event}");
        told += 1;
    }
    assert_eq!(told, 2);
    // One frame was classified, and it allocates no more than one region does.
    assert_eq!(jig.camera().telemetry.inferences.count(), 1);
    let threads = jig.engine.network.threads();
    let counts = threads.enter(|| {
        let mut classify = |count: usize| (0..count).for_each(|_| drop(jig.engine.classify(0)));
        classify(10);
        allocation_counter::measure(|| classify(20))
    });
    assert_eq!(counts.count_total, 0);
}

#[test]
fn a_pause_is_waited_for_and_no_longer_than_half_of_what_makes_lines_safe() {
    let folder = tempfile::tempdir().unwrap();
    model(folder.path());
    let text = configuration(1, "rgb24", "[safety]\nstale_ms = 90000\n[pace]\nrate = 0.1\n");
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let mut captured = Frame::new();
    for _ in 0..2 {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        jig.put(0, &mut captured);
    }
    assert!(matches!(jig.step(), Step::Again));
    jig.put(0, &mut captured);
    let Step::Wait(until) = jig.step() else { panic!("no pause") };
    assert!(until <= Instant::now() + IDLE_INTERVAL, "systemd is to be told meanwhile");
    let pause = jig.engine.viewpoints[0].memory.next.saturating_duration_since(Instant::now());
    assert!(pause > Duration::from_secs(5) && pause <= Duration::from_secs(10), "{pause:?}");
}
