//! Boxes, masks and points.

use super::*;

/// A zone of a quarter of the frame, from its left upper corner on.
fn quarter(left: f32, top: f32) -> String {
    let (right, bottom) = (left + 0.5, top + 0.5);
    format!("zone = [[{left}, {top}], [{right}, {top}], [{right}, {bottom}], [{left}, {bottom}]]")
}

/// A zone is a part of the frame as it comes, however it is turned for the network.
#[test]
fn masks_are_judged_by_their_share_of_a_zone_and_shown() {
    let outputs = vec![output_map("map", None)];
    let colours = vec![[9, 0, 0], [0, 9, 0], [0, 0, 9]];
    let task = resight_model_file::Task::Mask { outputs, map: "map".into(), colours };
    let folder = tempfile::tempdir().unwrap();
    model_of_channels(folder.path(), &[&[0, 1, 2]], task, b"thing red\nthing green\nthing blue\n");
    let rule = |name: &str, classes: &str, condition: &str| {
        format!("[[rule]]\nname = \"{name}\"\nclasses = [{classes}]\nthreshold = 0.9\n{condition}\n")
    };
    let rules = [
        rule("corner", "\"thing red\"", &quarter(0.0, 0.0)),
        rule("below", "\"thing red\"", &quarter(0.0, 0.5)),
        rule("beside", "\"thing red\"", &quarter(0.5, 0.0)),
        rule("either", "\"thing red\", \"thing blue\"", ""),
        rule("most", "\"thing blue\"", ""),
    ];
    for rotate in [0, 90, 180, 270] {
        for mirror in [false, true] {
            let image = format!("[image]\nrotate = {rotate}\nmirror = {mirror}\n");
            let text = configuration(1, "rgb24", &format!("{image}{}", rules.concat()));
            let mut source = frames(folder.path(), "rgb24", &text);
            let mut jig = Jig::new(folder.path(), &text);
            let mut captured = Frame::new();
            let mut frame = |jig: &mut Jig| {
                source.next(&mut captured, Duration::from_mins(1)).unwrap();
                for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
                    let red = index % 64 < 32 && index / 64 < 24;
                    pixel.copy_from_slice(if red { &[250, 0, 0] } else { &[0, 0, 250] });
                }
                captured.number += 1;
                jig.put(0, &mut captured);
                jig.go_on();
                assert!(matches!(jig.step(), Step::Again));
            };
            frame(&mut jig);
            let active: Vec<bool> = jig.camera().judged().active().collect();
            assert_eq!(active[..5], [true, false, false, true, false], "{image}");
            let shown = jig.camera().masks_after(0).unwrap();
            assert_eq!((shown.frame, shown.masks.len(), shown.masks[0].size), (1, 1, [8, 8]));
            let red = |index: usize| u8::from(index % 8 >= 4 || index / 8 >= 4) * 2;
            assert_eq!(shown.masks[0].classes, (0..64).map(red).collect::<Vec<_>>(), "{image}");
            assert!(jig.camera().masks_after(1).is_none());
            let threads = jig.engine.network.threads();
            let counted = threads.enter(|| {
                (0..3).for_each(|_| frame(&mut jig));
                allocation_counter::measure(|| (0..5).for_each(|_| frame(&mut jig)))
            });
            assert_eq!(counted.count_total, 0, "{image}");
        }
    }
    // A mask has no boxes to count.
    let text = configuration(1, "rgb24", &rule("many", "\"thing red\"", "count = 2"));
    std::fs::write(folder.path().join("c.toml"), text).unwrap();
    let path = folder.path().join("c.toml");
    let link = |_: usize, _: &SharedNames| -> Arc<CameraLink> { unreachable!("refused before") };
    let error = Program::load(&path, &Config::load(&path).unwrap(), link).map(|_| ()).unwrap_err();
    let expected = "c.toml: rule `many` has `least_size`, `count`, `dwell_s` or `crossing`, which are for networks that find boxes";
    assert!(error.to_string().contains(expected), "{error}");
}

/// A network that sees one thing has no two of them.
#[test]
fn several_things_are_not_asked_of_a_network_that_sees_one() {
    let folder = tempfile::tempdir().unwrap();
    model_of_points(folder.path());
    let path = folder.path().join("c.toml");
    let refusal = |condition: &str| {
        let rule =
            format!("[[rule]]\nname = \"many\"\nclasses = [\"thing red\"]\nthreshold = 0.5\n{condition}\n");
        std::fs::write(&path, configuration(1, "rgb24", &rule)).unwrap();
        let link = |_: usize, _: &SharedNames| -> Arc<CameraLink> { unreachable!("refused before") };
        Program::load(&path, &Config::load(&path).unwrap(), link).map(|_| ()).unwrap_err().to_string()
    };
    let error = refusal("count = 2");
    let expected =
        "rule `many` has `count`, which is for networks that find boxes, or the points of several things";
    assert!(error.contains(expected) && error.ends_with("finds those of one: leave it out"), "{error}");
    let error = refusal("least_size = 0.5");
    assert!(error.contains("rule `many` has `least_size`"), "{error}");
}

/// Points are places of the frame as it comes, however it is turned for the network and from whichever region;
/// those who watch are told of them.
#[test]
fn points_are_judged_by_their_zone_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    model_of_points(folder.path());
    let rule = |name: &str, class: &str, condition: &str| {
        format!("[[rule]]\nname = \"{name}\"\nclasses = [\"thing {class}\"]\nthreshold = 0.9\n{condition}\n")
    };
    let rules = [
        rule("corner", "red", &quarter(0.0, 0.0)),
        rule("below", "red", &quarter(0.0, 0.5)),
        rule("anywhere", "blue", ""),
        rule("beyond", "blue", &quarter(0.5, 0.5)),
        rule("without", "blue", &quarter(0.0, 0.0)),
    ];
    for rotate in [0, 90, 180, 270] {
        for mirror in [false, true] {
            let image = format!("[image]\nrotate = {rotate}\nmirror = {mirror}\n");
            let text = configuration(1, "rgb24", &format!("{image}{}", rules.concat()));
            let mut source = frames(folder.path(), "rgb24", &text);
            let mut jig = Jig::new(folder.path(), &text);
            let mut captured = Frame::new();
            // A red spot in the left upper quarter, a blue one in the right lower one.
            let mut frame = |jig: &mut Jig| {
                source.next(&mut captured, Duration::from_mins(1)).unwrap();
                for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
                    let [x, y] = [index % 64, index / 64];
                    let [red, blue] = [[16, 12], [48, 36]]
                        .map(|[column, row]: [usize; 2]| x.abs_diff(column) < 8 && y.abs_diff(row) < 6);
                    pixel.copy_from_slice(&[u8::from(red) * 250, 0, u8::from(blue) * 250]);
                }
                captured.number += 1;
                jig.put(0, &mut captured);
                jig.go_on();
                assert!(matches!(jig.step(), Step::Again));
            };
            frame(&mut jig);
            let active: Vec<bool> = jig.camera().judged().active().collect();
            assert_eq!(active[..5], [true, false, true, true, false], "{image}");
            let points = jig.engine.viewpoints[0].memory.points.clone();
            assert_eq!(points.iter().map(|point| point.class).collect::<Vec<_>>(), [0, 1, 2]);
            for (point, middle) in [(points[0], [0.25, 0.25]), (points[2], [0.75, 0.75])] {
                let near =
                    std::iter::zip(point.place, middle).all(|(at, middle)| (at - middle).abs() <= 0.125);
                assert!(near && point.score > 0.9, "{image} {points:?}");
            }
            let event = std::iter::from_fn(|| jig.tell.pop())
                .map(|event| event.json())
                .find(|e| e["rule"] == "corner");
            let event = event.unwrap();
            assert_eq!(
                (&event["point"], &event["box"]),
                (&serde_json::json!(points[0].place), &serde_json::Value::Null)
            );
            let threads = jig.engine.network.threads();
            let counted = threads.enter(|| {
                (0..3).for_each(|_| frame(&mut jig));
                allocation_counter::measure(|| (0..5).for_each(|_| frame(&mut jig)))
            });
            assert_eq!(counted.count_total, 0, "{image}");
        }
    }
}

/// Rules look at the points of all things, and nothing is allocated however many there are.
#[test]
fn points_of_several_things_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    model_of_things(folder.path());
    let rule = |name: &str, class: &str, left: f32| {
        let zone = format!("zone = [[{left}, 0], [{r}, 0], [{r}, 1], [{left}, 1]]", r = left + 0.5);
        format!("[[rule]]\nname = \"{name}\"\nclasses = [\"thing {class}\"]\nthreshold = 0.5\n{zone}\n")
    };
    let rules = [
        rule("left", "blue", 0.0),
        rule("right", "blue", 0.5),
        rule("left red", "red", 0.0),
        rule("right red", "red", 0.5),
        "[[rule]]\nname = \"two\"\nclasses = [\"thing red\", \"thing blue\"]\nthreshold = 0.5\ncount = 2\n"
            .to_owned(),
    ];
    let text = configuration(1, "rgb24", &rules.concat());
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let mut captured = Frame::new();
    // In cells of 8 x 6 pixels: from a red one diagonally to a blue one, once or twice.
    let mut frame = |jig: &mut Jig, things: &[usize]| {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
            let [column, row] = [index % 64 / 8, index / 64 / 6];
            let on = |thing: &&usize| row < 4 && column == **thing + row;
            let is_on = things.iter().any(|thing| on(&thing));
            let bright = |is_bright: bool| u8::from(is_bright) * 250;
            pixel.copy_from_slice(&[bright(is_on && row == 0), bright(is_on), bright(is_on && row == 3)]);
        }
        captured.number += 1;
        jig.put(0, &mut captured);
        jig.go_on();
        assert!(matches!(jig.step(), Step::Again));
        let active: Vec<bool> = jig.camera().judged().active().collect();
        let points = &jig.engine.viewpoints[0].memory.points;
        (active[..4] == [true; 4], points.len(), points.iter().map(|point| point.class).sum::<usize>())
    };
    assert_eq!(frame(&mut jig, &[0, 4]), (true, 4, 2));
    assert_eq!(jig.engine.viewpoints[0].names.links, [[0, 1]]);
    assert!(jig.camera().judged().active().nth(4) == Some(true), "there are two things");
    let points = jig.engine.viewpoints[0].memory.points.clone();
    let left = points.iter().filter(|point| point.place[0] < 0.5).map(|point| point.thing);
    let right = points.iter().filter(|point| point.place[0] > 0.5).map(|point| point.thing);
    let (left, right): (Vec<usize>, Vec<usize>) = (left.collect(), right.collect());
    assert!(left[0] == left[1] && right[0] == right[1] && left[0] != right[0], "{points:?}");
    let places: Vec<(usize, [f32; 2])> = points.iter().map(|point| (point.class, point.place)).collect();
    let near = |found: [f32; 2], cell: [f32; 2]| {
        std::iter::zip(found, cell).all(|(at, cell)| (at - (cell + 0.5) / 8.0).abs() < 0.05)
    };
    for (class, cell) in [(0, [0.0, 0.0]), (0, [4.0, 0.0]), (1, [3.0, 3.0]), (1, [7.0, 3.0])] {
        assert!(places.iter().any(|place| place.0 == class && near(place.1, cell)), "{places:?}");
    }
    assert_eq!(frame(&mut jig, &[4]).1, 2);
    assert!(jig.camera().judged().active().nth(4) == Some(false), "there is one thing");
    assert_eq!(frame(&mut jig, &[]).1, 0);
    let threads = jig.engine.network.threads();
    let counted = threads.enter(|| {
        (0..3).for_each(|_| assert_eq!(frame(&mut jig, &[]).1, 0));
        allocation_counter::measure(|| (0..5).for_each(|_| assert_eq!(frame(&mut jig, &[0, 4]).1, 4)))
    });
    // The list of what is active, which the test makes.
    assert_eq!(counted.count_total, 5);
}

#[test]
fn points_of_a_region_are_places_of_the_frame() {
    let folder = tempfile::tempdir().unwrap();
    model_of_points(folder.path());
    let rule = "[[rule]]\nname = \"blue\"\nclasses = [\"thing blue\"]\nthreshold = 0.9\n\
                zone = [[0.6, 0.6], [0.9, 0.6], [0.9, 0.9], [0.6, 0.9]]\n";
    let region = "[[region]]\nname = \"right\"\narea = [0.5, 0, 0.5, 1]\n";
    let text = configuration(1, "rgb24", &format!("{region}{rule}"));
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let mut captured = Frame::new();
    source.next(&mut captured, Duration::from_mins(1)).unwrap();
    for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
        let blue = (index % 64).abs_diff(48) < 6 && (index / 64).abs_diff(36) < 6;
        pixel.copy_from_slice(&[0, 0, u8::from(blue) * 250]);
    }
    captured.number += 1;
    jig.put(0, &mut captured);
    jig.go_on();
    assert!(matches!(jig.step(), Step::Again));
    assert_eq!(jig.camera().judged().active().next(), Some(true));
    let [x, y] = jig.engine.viewpoints[0].memory.points[2].place;
    assert!((x - 0.75).abs() < 0.07 && (y - 0.75).abs() < 0.13, "{x} {y}");
}

/// From the source's bytes to rules over boxes, and nothing allocated on the way.
#[test]
fn boxes_are_judged_by_their_place_size_and_number() {
    let folder = tempfile::tempdir().unwrap();
    model_of_boxes(folder.path());
    let rule = |name: &str, condition: &str| {
        format!("[[rule]]\nname = \"{name}\"\nclasses = [\"thing*\"]\nthreshold = 0.9\n{condition}\n")
    };
    let left = "zone = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]";
    let right = "zone = [[0.6, 0], [1, 0], [1, 1], [0.6, 1]]";
    let rules = [
        rule("left", left),
        rule("right", right),
        rule("several", "count = 200"),
        rule("large", "least_size = 0.1"),
        rule("huge", "least_size = 0.9"),
    ];
    let text = configuration(1, "rgb24", &rules.concat());
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    let mut captured = Frame::new();
    let mut frame = |jig: &mut Jig, red: bool| {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
            let is_thing = red && (8..32).contains(&(index % 64)) && (12..36).contains(&(index / 64));
            // Three and a half cells wide and high.
            pixel.copy_from_slice(if is_thing { &[255, 198, 198] } else { &[0, 128, 128] });
        }
        captured.number += 1;
        jig.put(0, &mut captured);
        jig.go_on();
        assert!(matches!(jig.step(), Step::Again));
    };
    frame(&mut jig, false);
    assert!(jig.engine.viewpoints[0].memory.boxes.is_empty());
    assert!(jig.camera().judged().active().all(|active| !active));
    frame(&mut jig, true);
    let boxes = jig.engine.viewpoints[0].memory.boxes.clone();
    assert!(!boxes.is_empty());
    for seen in &boxes {
        let [left, top, right, bottom] = seen.edges;
        assert!(seen.score > 0.9 && left < right && right < 0.75 && top < bottom && bottom < 1.0, "{seen:?}");
    }
    let active: Vec<bool> = jig.camera().judged().active().collect();
    // The last one is the configuration's own rule about anything.
    assert_eq!(active, [true, false, false, true, false, true]);
    let events: Vec<serde_json::Value> =
        std::iter::from_fn(|| jig.tell.pop()).map(|event| event.json()).collect();
    let told = events.iter().find(|event| event["rule"] == "left").unwrap();
    assert_eq!(told["box"], serde_json::json!(boxes[0].edges));
    let threads = jig.engine.network.threads();
    let counted = threads.enter(|| {
        (0..5).for_each(|_| frame(&mut jig, true));
        allocation_counter::measure(|| (0..20).for_each(|_| frame(&mut jig, true)))
    });
    assert_eq!(counted.count_total, 0);
    let boxes = &jig.engine.viewpoints[0].memory.boxes;
    assert!(boxes.iter().any(|seen| seen.track == Some(1)), "{boxes:?}");
    let judged = jig.camera().judged();
    let things: Vec<u64> = (0..6).map(|rule| judged.counted(rule).map(|(_, count)| count).sum()).collect();
    // Those on the left and of any size are followed, and there are none elsewhere or as large as that.
    assert!(things[0] > 0 && things[1] == 0 && things[3] > 0 && things[4] == 0, "{things:?}");
    assert_eq!(judged.totals().collect::<Vec<_>>(), things);
    // A classifier finds no boxes to count.
    model(folder.path());
    let path = folder.path().join("c.toml");
    let config = Config::load(&path).unwrap();
    let link = |_: usize, _: &SharedNames| -> Arc<CameraLink> { unreachable!("refused before") };
    let error = Program::load(&path, &config, link).map(|_| ()).unwrap_err().to_string();
    let expected = "c.toml: rule `left` has `least_size`, `count`, `dwell_s` or `crossing`, which are for networks that find boxes, or `zone`,";
    assert!(error.contains(expected), "{error}");
}

/// A thing that two tiles see is one, and nothing is allocated on the way.
#[test]
fn tiles_are_looked_at_one_by_one_and_their_boxes_are_of_the_frame() {
    let folder = tempfile::tempdir().unwrap();
    model_of_boxes(folder.path());
    let rule = "[[rule]]\nname = \"thing\"\nclasses = [\"thing\"]\nthreshold = 0.9\n";
    let several = "[[rule]]\nname = \"several\"\nclasses = [\"thing\"]\nthreshold = 0.9\ncount = 2\n";
    let image = "[image]\ntiles = [1, 2]\ntile_overlap = 0.5\n";
    let text = configuration(1, "rgb24", &format!("{image}{rule}{several}"));
    let mut source = frames(folder.path(), "rgb24", &text);
    let mut jig = Jig::new(folder.path(), &text);
    assert_eq!((jig.engine.viewpoints[0].sights.len(), jig.engine.viewpoints[0].tiles()), (2, 2));
    let mut captured = Frame::new();
    // Tiles are 42.7 columns wide and have the columns 21 to 42 in common.
    let mut frame = |jig: &mut Jig, lefts: &[usize]| {
        source.next(&mut captured, Duration::from_mins(1)).unwrap();
        for (index, pixel) in captured.bytes.chunks_exact_mut(3).enumerate() {
            let is_thing = lefts.iter().any(|&left| (left..left + 16).contains(&(index % 64)))
                && (12..30).contains(&(index / 64));
            // Three cells wide and high, as the thing is.
            pixel.copy_from_slice(if is_thing { &[255, 188, 188] } else { &[0, 128, 128] });
        }
        captured.number += 1;
        jig.put(0, &mut captured);
        jig.go_on();
        assert!(matches!(jig.step(), Step::Again));
        jig.engine.viewpoints[0].memory.boxes.clone()
    };
    let middles = |boxes: &[SeenBox]| -> Vec<i32> {
        let mut middles: Vec<i32> = boxes
            .iter()
            .map(|seen| (64.0 * f32::midpoint(seen.edges[0], seen.edges[2])).round() as i32)
            .collect();
        middles.sort_unstable();
        middles
    };
    assert_eq!(frame(&mut jig, &[]), []);
    // In both tiles; in the left one; in each one of its own.
    let cases =
        [(vec![24], vec![30]), (vec![2], vec![9]), (vec![2, 46], vec![9, 55]), (vec![24, 46], vec![30, 55])];
    for (lefts, expected) in cases {
        let boxes = frame(&mut jig, &lefts);
        let found = middles(&boxes);
        let is_near = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() <= 3);
        assert!(is_near, "{lefts:?}: {boxes:?}");
        let active: Vec<bool> = jig.camera().judged().active().take(2).collect();
        assert_eq!(active, [true, expected.len() > 1], "{lefts:?}");
    }
    let threads = jig.engine.network.threads();
    let counted = threads.enter(|| {
        (0..5).for_each(|_| drop(frame(&mut jig, &[24])));
        allocation_counter::measure(|| (0..5).for_each(|_| drop(frame(&mut jig, &[24]))))
    });
    // What the test itself copies.
    assert_eq!(counted.count_total, 5);
    // A classifier has no boxes to merge.
    model(folder.path());
    let path = folder.path().join("c.toml");
    let link = |_: usize, _: &SharedNames| -> Arc<CameraLink> { unreachable!("refused before") };
    std::fs::write(&path, configuration(1, "rgb24", image)).unwrap();
    let error =
        Program::load(&path, &Config::load(&path).unwrap(), link).map(|_| ()).unwrap_err().to_string();
    let expected = "c.toml: `tiles` in [image] is for networks that find boxes, which ";
    assert!(error.contains(expected), "{error}");
}
