//! Several cameras that share a network.

use super::*;

/// A jig of three cameras, of which the last looks at two parts of each frame, and a frame for them.
fn three(folder: &Path) -> Jig {
    model(folder);
    let camera = |name: &str| {
        format!(
            "[[camera]]\nname = \"{name}\"\n[camera.source]\nkind = \"raw\"\npath = \"frames\"\nformat = \"rgb24\"\n\
             width = 64\nheight = 48\n"
        )
    };
    let regions = "[[camera.region]]\nname = \"left\"\narea = [0, 0, 0.5, 1]\n\
        [[camera.region]]\nname = \"right\"\narea = [0.5, 0, 0.5, 1]\n";
    let cameras = ["porch", "yard", "gate"].map(camera).concat();
    let rule = "[[rule]]\nname = \"any\"\nclasses = [\"thing*\"]\nmode = \"pulse\"\npulse_ms = 1\n";
    Jig::new(folder, &format!("[model]\nfile = \"m.tar\"\nthreads = 1\n{cameras}{regions}{rule}"))
}

impl Jig {
    /// Gives these cameras a frame if they have none, and lets one be classified.
    fn turn(&mut self, (frame, pixels): (&mut Frame, &[u8]), cameras: &[usize]) {
        for &camera in cameras {
            if self.engine.viewpoints[camera].link.frames.has_room() {
                fill(frame, pixels);
                frame.number += 1;
                self.put(camera, frame);
            }
        }
        self.go_on();
        assert!(matches!(self.step(), Step::Again));
    }

    /// How many inferences each camera has had.
    fn inferences(&self) -> [u64; 3] {
        let count = |camera: usize| {
            let viewpoint = &self.engine.viewpoints[camera];
            viewpoint.link.board.telemetry.inferences.count() * viewpoint.sights.len() as u64
        };
        [0, 1, 2].map(count)
    }
}

#[test]
fn three_cameras_get_the_same_share_of_inferences_and_a_lost_one_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut jig = three(folder.path());
    let (mut frame, pixels) = (Frame::new(), pixels());
    (0..75).for_each(|_| jig.turn((&mut frame, &pixels), &[0, 1, 2]));
    assert_eq!(jig.inferences(), [30, 30, 30]);
    // Two go on, and each has half.
    (0..40).for_each(|_| jig.turn((&mut frame, &pixels), &[0, 1]));
    // The lost one had a frame left.
    assert_eq!(jig.inferences().iter().sum::<u64>(), 90 + 41);
    assert!(jig.inferences()[0].abs_diff(jig.inferences()[1]) <= 1, "{:?}", jig.inferences());
    // It is back, and makes up for hardly anything.
    let before = jig.inferences();
    (0..75).for_each(|_| jig.turn((&mut frame, &pixels), &[0, 1, 2]));
    let after = jig.inferences();
    for (before, after) in before.iter().zip(after) {
        assert!((after - before).abs_diff(30) <= 8, "{before}, {after}");
    }
    // What each shows is its own.
    let figures = jig.reach.board.figures();
    let regions: Vec<usize> = figures.camera_figures.iter().map(|camera| camera.regions.len()).collect();
    assert_eq!(regions, [0, 0, 2]);
    assert!(figures.last.is_none() && figures.camera_figures.iter().all(|camera| camera.last.is_some()));
    assert_eq!(
        figures.inference.count,
        figures.camera_figures.iter().map(|camera| camera.inference.count).sum::<u64>()
    );
}

#[test]
fn several_cameras_allocate_no_more_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut jig = three(folder.path());
    let (mut frame, pixels) = (Frame::new(), pixels());
    let threads = jig.engine.network.threads();
    let counts = threads.enter(|| {
        let mut turns = |count: usize| {
            for _ in 0..count {
                jig.turn((&mut frame, &pixels), &[0, 1, 2]);
                while jig.tell.pop().is_some() {}
            }
        };
        turns(20);
        allocation_counter::measure(|| turns(100))
    });
    assert_eq!(counts.count_total, 0);
}

#[test]
fn a_capture_stage_that_hangs_is_not_hidden_by_the_other_cameras() {
    let folder = tempfile::tempdir().unwrap();
    let jig = three(folder.path());
    let seconds = Duration::from_secs;
    let look = |camera: usize, at: u64| jig.engine.viewpoints[camera].link.looked.now(seconds(at));
    (0..3).for_each(|camera| look(camera, 100));
    assert!(jig.engine.is_looked_for(seconds(104), None));
    look(0, 110);
    look(2, 110);
    assert!(!jig.engine.is_looked_for(seconds(111), None));
    assert!(!jig.engine.is_looked_for(seconds(111), Some(0)), "an inference of another camera");
    assert!(jig.engine.is_looked_for(seconds(111), Some(1)), "it has just given a frame");
    // There is nothing to look for any more.
    jig.engine.viewpoints[1].link.frames.close();
    assert!(jig.engine.is_looked_for(seconds(111), None));
}
