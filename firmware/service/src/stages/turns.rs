//! Whose frame is classified next.
//!
//! Cameras that have frames get the same number of inferences, whatever their rates and however many
//! regions they have: start-time fair queueing (Goyal, Vin and Cheng, 1996) with an inference as the unit.
//! Who had no frame for a while has hardly anything to make up for, so a camera that comes back takes no
//! more than its share, and one that gives few frames is served as soon as it has one.

/// So many inferences may be made up for: a frame that comes a moment after its turn costs no share.
const ARREARS: u64 = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Turns {
    /// For each camera, where its next turn begins, in inferences.
    next: Vec<u64>,
    /// Where the last turn began, but for those that made up for something.
    clock: u64,
    /// Whose turn it was; of equals the one after it is the first.
    last: usize,
}

impl Turns {
    pub(super) fn new(cameras: usize) -> Self {
        Self { next: vec![0; cameras], clock: 0, last: cameras.saturating_sub(1) }
    }

    /// Whose turn it is of the cameras that wait.
    pub(super) fn next(&self, waits: impl Fn(usize) -> bool) -> Option<usize> {
        let cameras = self.next.len();
        let others = (1..=cameras).map(|step| (self.last + step) % cameras);
        others.filter(|camera| waits(*camera)).min_by_key(|camera| self.begin(*camera))
    }

    /// A camera had its turn, which took so many inferences. A look that took none counts as one, so that
    /// frames that show nothing new do not keep others waiting.
    pub(super) fn had(&mut self, camera: usize, inferences: usize) {
        let begin = self.begin(camera);
        self.clock = self.clock.max(begin);
        self.last = camera;
        if let Some(next) = self.next.get_mut(camera) {
            *next = begin + inferences.max(1) as u64;
        }
    }

    fn begin(&self, camera: usize) -> u64 {
        self.next.get(camera).copied().unwrap_or(0).max(self.clock.saturating_sub(ARREARS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many inferences each camera gets of so many turns; `waits` is asked for a turn and a camera.
    fn shares(
        turns: &mut Turns,
        costs: &[usize],
        count: usize,
        waits: impl Fn(usize, usize) -> bool,
    ) -> Vec<usize> {
        let mut inferences = vec![0; costs.len()];
        for turn in 0..count {
            let Some(camera) = turns.next(|camera| waits(turn, camera)) else { continue };
            turns.had(camera, costs[camera]);
            inferences[camera] += costs[camera];
        }
        inferences
    }

    #[test]
    fn cameras_that_always_have_frames_take_turns() {
        assert_eq!(shares(&mut Turns::new(3), &[1, 1, 1], 300, |_, _| true), [100; 3]);
        assert_eq!(Turns::new(0).next(|_| true), None);
        assert_eq!(shares(&mut Turns::new(1), &[1], 7, |_, _| true), [7]);
    }

    #[test]
    fn one_with_four_regions_gets_no_more_inferences_than_the_others() {
        let shares = shares(&mut Turns::new(3), &[4, 1, 1], 900, |_, _| true);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 4, "{shares:?}");
    }

    #[test]
    fn one_that_is_slow_is_served_at_once_and_costs_no_more_than_it_takes() {
        // The third has a frame in every tenth turn only, which waits until it is served.
        let (mut turns, mut since, mut longest, mut served) = (Turns::new(3), None, 0, [0; 3]);
        for turn in 0..1000 {
            since = if turn % 10 == 0 { Some(turn) } else { since };
            let camera = turns.next(|camera| camera < 2 || since.is_some()).unwrap();
            turns.had(camera, 1);
            served[camera] += 1;
            if let Some(begin) = since.filter(|_| camera == 2) {
                (since, longest) = (None, longest.max(turn - begin));
            }
        }
        assert_eq!(served, [450, 450, 100]);
        assert!(longest <= 2, "after {longest} others");
        // One that is lost takes nothing.
        assert_eq!(shares(&mut Turns::new(3), &[1; 3], 1000, |_, camera| camera < 2), [500, 500, 0]);
    }

    #[test]
    fn one_that_comes_back_has_hardly_anything_to_make_up_for() {
        let mut turns = Turns::new(3);
        shares(&mut turns, &[1; 3], 1000, |_, camera| camera < 2);
        let back = shares(&mut turns, &[1; 3], 308, |_, _| true);
        assert!(back[2] <= 100 + ARREARS as usize && back[0].abs_diff(back[1]) <= 1, "{back:?}");
        assert_eq!(shares(&mut turns, &[1; 3], 30, |_, _| true), [10; 3]);
    }

    #[test]
    fn a_frame_that_comes_a_moment_late_costs_no_share() {
        // The third misses three of its turns, and then has frames for as long.
        let waits = |turn: usize, camera: usize| camera < 2 || turn / 9 % 2 == 1;
        let shares = shares(&mut Turns::new(3), &[1; 3], 900, waits);
        assert!(shares.iter().all(|share| share.abs_diff(300) <= 4), "{shares:?}");
    }
}
