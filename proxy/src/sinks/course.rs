//! What follows from what came of a batch: a pure state machine, with the time and the dice as arguments.
//!
//! ```text
//! works    --taken--> works
//! works    --later--> pausing, ever longer up to a minute --taken--> works
//! pausing  --the fifth failure in a row--> broken: one event at a time --taken--> works
//! any      --refused--> refused: pauses from half a minute up to ten --taken--> works
//! any      --never--> the batch is halved until one event is alone; that one goes to the dead letters
//! any      --gone--> stopped, until the configuration is read again
//! ```
//! Pauses are drawn: many sinks that lost one receiver at the same moment do not come back at the same moment.

use std::time::Duration;

/// The first pause after a failure, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// No pause is shorter.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The first pause after a refusal, and the longest.
const REFUSED_PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// The other side may ask for a pause up to this.
const ASKED_MAX: Duration = Duration::from_secs(3600);
/// Failures in a row from which on the breaker is open.
const BREAKS_AFTER: u32 = 5;
/// Dead letters in a row from which on each further one is paused after: a receiver that wants nothing at all is
/// misconfigured, and its events should not all be dead before somebody looks.
const BURIED_FREELY: u32 = 10;

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was taken.
    Taken,
    /// It was not; later it may be.
    Later {
        /// How long the other side asks to be left alone.
        wait: Option<Duration>,
    },
    /// One of its events is not wanted.
    Never,
    /// Somebody has to mend something.
    Refused,
    /// The other side wants nothing more.
    Gone,
}

/// What becomes of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is done; the position moves behind it.
    Advance,
    /// Its one event goes to the dead letters; the position moves behind it.
    Bury,
    /// It is sent again, or a part of it.
    Again,
}

/// When the next batch may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once, with at most so many events.
    Now {
        /// Events, at least one.
        most: usize,
    },
    /// Not before that time.
    At(Duration),
    /// Not as long as this runs.
    Never,
}

/// How a sink stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The last batch was taken, or there was none.
    Works,
    /// The last batches failed.
    Pausing,
    /// So many failed that single events are tried.
    Broken,
    /// Somebody has to mend something.
    Refused,
    /// Nothing is sent until the configuration is read again.
    Stopped,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Works, Self::Pausing, Self::Broken, Self::Refused, Self::Stopped];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Pausing => "pausing",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}

/// Where one sink stands. Times count from any moment, the same for all calls.
#[derive(Clone, Debug)]
pub struct Course {
    full: usize,
    most: usize,
    failures: u32,
    refusals: u32,
    buried: u32,
    resumes: Duration,
    state: State,
}

impl Course {
    /// A sink that takes at most `full` events at once, at least one.
    #[must_use]
    pub fn new(full: usize) -> Self {
        let full = full.max(1);
        Self {
            full,
            most: full,
            failures: 0,
            refusals: 0,
            buried: 0,
            resumes: Duration::ZERO,
            state: State::Works,
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When the next batch may be sent.
    #[must_use]
    pub fn due(&self, now: Duration) -> Due {
        match self.state {
            State::Stopped => Due::Never,
            _ if now < self.resumes => Due::At(self.resumes),
            State::Broken | State::Refused => Due::Now { most: 1 },
            State::Works | State::Pausing => Due::Now { most: self.most },
        }
    }

    /// Hears at `now` what came of a batch of `sent` events; `dice` is from 0 to 1, drawn anew for each call.
    pub fn hear(&mut self, now: Duration, sent: usize, told: Told, dice: f64) -> Then {
        match told {
            Told::Taken => {
                (self.failures, self.refusals, self.buried) = (0, 0, 0);
                self.state = State::Works;
                self.most = self.most.max(sent).saturating_mul(2).min(self.full);
                Then::Advance
            }
            Told::Later { wait } => {
                self.failures = self.failures.saturating_add(1);
                self.state = if self.failures < BREAKS_AFTER { State::Pausing } else { State::Broken };
                let pause = doubled(PAUSE, self.failures).mul_f64(fraction(dice)).max(PAUSE_MIN);
                self.resumes = now + pause.max(wait.unwrap_or_default().min(ASKED_MAX));
                Then::Again
            }
            Told::Refused => {
                self.state = State::Refused;
                self.pause_as_refused(now, dice);
                Then::Again
            }
            Told::Gone => {
                self.state = State::Stopped;
                Then::Again
            }
            Told::Never if sent > 1 => {
                self.most = sent.div_ceil(2).max(1);
                Then::Again
            }
            Told::Never => {
                // It answers, so it is there.
                self.failures = 0;
                self.most = 1;
                self.buried = self.buried.saturating_add(1);
                if self.buried > BURIED_FREELY {
                    self.state = State::Refused;
                    self.pause_as_refused(now, dice);
                } else {
                    self.state = State::Works;
                }
                Then::Bury
            }
        }
    }

    fn pause_as_refused(&mut self, now: Duration, dice: f64) {
        self.refusals = self.refusals.saturating_add(1);
        let pause = doubled(REFUSED_PAUSE, self.refusals);
        self.resumes = now + pause.mul_f64(0.5 + fraction(dice) / 2.0);
    }
}

/// The longest pause after the `nth` failure in a row.
fn doubled((first, longest): (Duration, Duration), nth: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(nth.saturating_sub(1).min(16))).min(longest)
}

fn fraction(dice: f64) -> f64 {
    if dice.is_finite() { dice.clamp(0.0, 1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sends `events` in order against `answer`, on virtual time; gives who was delivered, who was buried, the number of
    /// tries, and when it ended.
    fn run(
        events: u64,
        until: Duration,
        mut dice: impl FnMut() -> f64,
        answer: impl Fn(Duration, &[u64]) -> Told,
    ) -> (Vec<u64>, Vec<u64>, u32, Duration) {
        let mut course = Course::new(100);
        let (mut now, mut next, mut tries) = (Duration::ZERO, 0, 0);
        let (mut delivered, mut buried) = (Vec::new(), Vec::new());
        while next < events && now < until {
            match course.due(now) {
                Due::Never => break,
                Due::At(at) => {
                    assert!(at > now, "it waits for what is over");
                    now = at;
                }
                Due::Now { most } => {
                    assert!(most >= 1, "an empty batch");
                    let batch: Vec<u64> = (next..events.min(next + most as u64)).collect();
                    tries += 1;
                    let told = answer(now, &batch);
                    match course.hear(now, batch.len(), told, dice()) {
                        Then::Advance => delivered.extend(&batch),
                        Then::Bury => buried.extend(&batch),
                        Then::Again => {
                            now += Duration::from_millis(1);
                            continue;
                        }
                    }
                    next += batch.len() as u64;
                    now += Duration::from_millis(1);
                }
            }
        }
        (delivered, buried, tries, now)
    }

    fn halves() -> impl FnMut() -> f64 {
        let mut number = 0.37_f64;
        move || {
            number = (number * 7.31 + 0.13).fract();
            number
        }
    }

    #[test]
    fn an_hour_of_outage_costs_few_tries_and_everything_arrives_within_a_minute() {
        let hour = seconds(3600);
        let answer = |now: Duration, _: &[u64]| {
            if now < hour { Told::Later { wait: None } } else { Told::Taken }
        };
        let (delivered, buried, tries, end) = run(5000, hour * 2, halves(), answer);
        assert_eq!(delivered, (0..5000).collect::<Vec<_>>(), "each once and in order");
        assert!(buried.is_empty());
        assert!(tries < 400, "{tries} tries in an hour");
        assert!(end <= hour + seconds(62), "it came back {:?} after the receiver did", end - hour);
    }

    #[test]
    fn the_one_offending_event_is_found_and_everything_else_arrives() {
        for bad in [0, 1, 49, 50, 99, 100, 249] {
            let answer =
                |_: Duration, batch: &[u64]| if batch.contains(&bad) { Told::Never } else { Told::Taken };
            let (delivered, buried, tries, end) = run(250, seconds(3600), halves(), answer);
            assert_eq!(buried, [bad], "only that one is given up");
            assert_eq!(delivered, (0..250).filter(|event| *event != bad).collect::<Vec<_>>());
            assert!(tries < 40, "{tries} tries to find event {bad}");
            assert!(end < seconds(1), "others waited {end:?} for event {bad}");
        }
    }

    #[test]
    fn a_receiver_that_wants_nothing_gets_few_events_before_somebody_can_look() {
        let (delivered, buried, ..) = run(5000, seconds(3600), halves(), |_, _| Told::Never);
        assert!(delivered.is_empty());
        assert!((10..40).contains(&buried.len()), "{} events were given up in an hour", buried.len());
    }

    #[test]
    fn a_refusal_keeps_everything_and_is_tried_slowly() {
        let (delivered, buried, tries, _) = run(10, seconds(3600), halves(), |_, _| Told::Refused);
        assert!(delivered.is_empty() && buried.is_empty(), "nothing is given up");
        assert!((5..30).contains(&tries), "{tries} tries in an hour");
    }

    #[test]
    fn what_is_gone_is_left_alone() {
        let (.., tries, _) = run(10, seconds(3600), halves(), |_, _| Told::Gone);
        assert_eq!(tries, 1);
    }

    #[test]
    fn an_asked_pause_is_kept_and_bounded() {
        let mut course = Course::new(10);
        course.hear(seconds(5), 3, Told::Later { wait: Some(seconds(90)) }, 0.0);
        assert_eq!(course.due(seconds(94)), Due::At(seconds(95)));
        assert_eq!(course.due(seconds(95)), Due::Now { most: 10 });
        course.hear(seconds(95), 3, Told::Later { wait: Some(seconds(1_000_000)) }, 0.0);
        assert_eq!(course.due(seconds(95)), Due::At(seconds(95) + ASKED_MAX));
    }

    #[test]
    fn a_broken_sink_tries_one_event_and_then_goes_on_in_full() {
        let mut course = Course::new(10);
        let mut now = Duration::ZERO;
        for failure in 1..=BREAKS_AFTER {
            course.hear(now, 10, Told::Later { wait: None }, 1.0);
            assert_eq!(course.state() == State::Broken, failure == BREAKS_AFTER, "failure {failure}");
            now += seconds(61);
        }
        assert_eq!(course.due(now), Due::Now { most: 1 });
        assert_eq!(course.hear(now, 1, Told::Taken, 1.0), Then::Advance);
        assert_eq!((course.state(), course.due(now)), (State::Works, Due::Now { most: 10 }));
    }

    proptest! {
        #[test]
        fn whatever_comes_nothing_is_skipped_and_no_pause_is_longer_than_an_hour(
            answers in prop::collection::vec((0_u8..5, any::<u16>()), 1..400),
            dice in prop::collection::vec(any::<f64>(), 1..20),
        ) {
            let mut course = Course::new(64);
            let (mut now, mut at) = (Duration::ZERO, 0_usize);
            for ((answer, wait), dice) in answers.iter().zip(dice.iter().cycle()) {
                let most = match course.due(now) {
                    Due::Never => break,
                    Due::At(resumes) => {
                        prop_assert!(resumes - now <= ASKED_MAX, "a pause of {:?}", resumes - now);
                        now = resumes;
                        continue;
                    }
                    Due::Now { most } => most,
                };
                prop_assert!((1..=64).contains(&most));
                let told = match answer {
                    0 => Told::Taken,
                    1 => Told::Later { wait: Some(seconds(u64::from(*wait))) },
                    2 => Told::Later { wait: None },
                    3 => Told::Never,
                    _ => Told::Refused,
                };
                let then = course.hear(now, most, told, *dice);
                prop_assert_eq!(then == Then::Advance, told == Told::Taken);
                prop_assert!(then != Then::Bury || most == 1, "{} events were given up at once", most);
                at += usize::from(then != Then::Again) * most;
            }
            prop_assert!(at <= answers.len() * 64);
        }
    }
}
