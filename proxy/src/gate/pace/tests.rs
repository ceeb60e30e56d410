//! What must hold of the pace of a degraded client.

use proptest::prelude::*;

use super::*;

/// Ten rows on each step.
fn ladder() -> Ladder {
    Ladder::new(DELAY, DELAY_MAX, 10, 2)
}

fn at(second: u64) -> Time {
    Time(1_000_000_000 + second * 1_000_000)
}

fn seconds(turn: Option<Turn>) -> f64 {
    turn.unwrap().held.as_secs_f64()
}

/// What a client has that asks for `count` rows one after the other, each as soon as the one before was answered: the
/// seconds that each was held.
fn one_by_one(pace: &Pace, ladder: &Ladder, count: u64) -> Vec<f64> {
    let mut now = at(0);
    let mut held = Vec::new();
    for _ in 0..count {
        let _place = pace.enter(ladder, now).unwrap();
        let turn = pace.turn(ladder, 1, now).unwrap();
        now = now.plus(turn.held);
        held.push(turn.held.as_secs_f64());
    }
    held
}

#[test]
fn rows_cost_twice_as_much_on_each_step_up_to_the_longest() {
    let ladder = ladder();
    let held = one_by_one(&Pace::default(), &ladder, 70);
    let on_steps: Vec<f64> = (0..7).map(|step| held[step * 10 + 9]).collect();
    assert_eq!(on_steps, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]);
    assert_eq!(held[0..10], [0.5; 10], "the first step is as long as the second begins");
}

#[test]
fn a_first_decision_gives_some_fifty_rows_by_default() {
    let held = one_by_one(&Pace::default(), &Ladder::default(), 100);
    let within = |minutes: f64| {
        let ends = held.iter().scan(0.0, |sum, held| {
            *sum += held;
            Some(*sum)
        });
        ends.take_while(|end| *end <= minutes * 60.0).count()
    };
    assert_eq!([10.0, 15.0].map(within), [46, 56], "as docs/detection-quality.md and docs/DECISIONS.md say");
}

#[test]
fn four_hundred_rows_take_hours_however_they_are_asked() {
    let ladder = ladder();
    let one_at_a_time: f64 = one_by_one(&Pace::default(), &ladder, 400).iter().sum();
    assert!((10_000.0..10_600.0).contains(&one_at_a_time), "{one_at_a_time} s");
    let pace = Pace::default();
    let (mut now, mut rows) = (at(0), 0);
    while rows < 400 {
        match pace.turn(&ladder, 20, now) {
            Some(turn) => {
                rows += 20;
                now = now.plus(turn.held);
            }
            None => now = now.plus(Duration::from_secs(1)),
        }
    }
    let by_twenty = now.since(at(0)).as_secs_f64();
    assert!(by_twenty > 9_000.0, "{by_twenty} s by requests of twenty rows");
}

#[test]
fn a_client_that_asks_once_a_minute_stays_on_the_first_step() {
    let (pace, ladder) = (Pace::default(), ladder());
    for minute in 0..500 {
        let turn = pace.turn(&ladder, 1, at(minute * 60)).unwrap();
        assert_eq!((turn.held, turn.digits), (Duration::from_millis(500), 2), "minute {minute}");
    }
}

#[test]
fn a_client_that_rests_comes_down_again() {
    let (pace, ladder) = (Pace::default(), ladder());
    one_by_one(&pace, &ladder, 300);
    assert_eq!(seconds(pace.turn(&ladder, 1, at(20_000))), 0.5, "after hours");
}

#[test]
fn digits_go_down_with_the_steps_and_never_below_one() {
    let of_four = Ladder::new(DELAY, DELAY_MAX, 10, 4);
    assert_eq!([0, 9, 10, 20, 30, 40, u64::MAX].map(|before| of_four.digits(before)), [4, 4, 3, 2, 1, 1, 1]);
    let (pace, ladder) = (Pace::default(), ladder());
    assert_eq!(pace.turn(&ladder, 11, at(0)).unwrap().digits, 1, "as its last row");
}

#[test]
fn many_rows_are_held_for_the_longest_delay_and_owe_the_rest() {
    let (pace, ladder) = (Pace::default(), ladder());
    let turn = pace.turn(&ladder, 1000, at(0)).unwrap();
    assert_eq!(turn.held, Duration::from_secs(30));
    assert_eq!(turn.cost, Duration::from_secs(5 + 10 + 20 + 40 + 80 + 160 + 940 * 30));
    assert!(pace.enter(&ladder, at(30)).is_none() && pace.turn(&ladder, 1, at(30)).is_none());
    let paid = turn.cost.as_secs();
    assert!(pace.enter(&ladder, at(paid - 31)).is_none(), "more than the longest delay before");
    assert!(pace.enter(&ladder, at(paid - 30)).is_some());
}

#[test]
fn questions_side_by_side_do_not_divide_the_delay() {
    let (pace, ladder) = (Pace::default(), ladder());
    let places: Vec<Place> = (0..PLACES).map(|_| pace.enter(&ladder, at(0)).unwrap()).collect();
    assert!(pace.enter(&ladder, at(0)).is_none(), "a further one");
    let held: Vec<f64> = places.iter().map(|_| seconds(pace.turn(&ladder, 1, at(0)))).collect();
    assert_eq!(held, [0.5, 1.0, 1.5, 2.0]);
    drop(places);
    assert!(pace.enter(&ladder, at(2)).is_some(), "once they are answered");
}

#[test]
fn a_place_is_of_one_client_and_free_again_whatever_became_of_its_request() {
    let (one, other, ladder) = (Pace::default(), Pace::default(), ladder());
    for _ in 0..100 {
        let place = one.enter(&ladder, at(0)).unwrap();
        assert!(place.is_of(&one.clone()) && !place.is_of(&other), "clones are of the same client");
    }
}

#[test]
fn without_a_delay_nothing_is_held_or_refused_and_digits_go_down_all_the_same() {
    let (pace, ladder) = (Pace::default(), Ladder::new(Duration::ZERO, DELAY_MAX, 10, 2));
    let places: Vec<_> = (0..100).map(|_| pace.enter(&ladder, at(0))).collect();
    assert!(places.iter().all(Option::is_some));
    let turns: Vec<Turn> = (0..30).map(|_| pace.turn(&ladder, 1, at(0)).unwrap()).collect();
    assert!(turns.iter().all(|turn| turn.held.is_zero() && turn.cost.is_zero()));
    assert_eq!((turns[9].digits, turns[10].digits), (2, 1));
}

#[test]
fn a_ladder_of_one_delay_stays_on_it() {
    let ladder = Ladder::new(DELAY, Duration::ZERO, 10, 2);
    let held = one_by_one(&Pace::default(), &ladder, 100);
    assert_eq!(held, [0.5; 100]);
    assert_eq!(ladder.retry_after(), Duration::from_secs(1), "whole seconds, and at least one");
}

fn ladders() -> impl Strategy<Value = Ladder> {
    (0..2_000_u64, 0..300_000_u64, 1..40_u32, 1..16_u8).prop_map(|(delay, longest, rows, digits)| {
        Ladder::new(Duration::from_millis(delay), Duration::from_millis(longest), rows, digits)
    })
}

proptest! {
    #[test]
    fn the_cost_of_rows_is_the_sum_of_what_each_costs(ladder in ladders(), before in 0..900_u64, rows in 0..900_u64) {
        let sum: u64 = (before..before + rows).map(|row| ladder.row(row)).sum();
        prop_assert_eq!(ladder.cost(before, rows), sum);
    }

    #[test]
    fn no_row_is_cheaper_or_finer_than_the_one_before_it(ladder in ladders(), before in 0..900_u64) {
        prop_assert!(ladder.row(before) <= ladder.row(before + 1));
        prop_assert!(ladder.digits(before) >= ladder.digits(before + 1));
        prop_assert!(ladder.row(before) <= ladder.longest);
        let top = ladder.top();
        prop_assert_eq!(ladder.row(top), ladder.row(u64::MAX), "the top is the top");
        prop_assert_eq!(ladder.digits(top), 1);
    }

    /// However requests are cut, timed and sent side by side: no answer comes before all earlier ones are paid, and none
    /// before its own rows are, up to the longest delay.
    #[test]
    fn no_order_of_requests_gets_rows_sooner_than_they_are_paid(
        ladder in ladders(),
        requests in prop::collection::vec((0..40_u64, 1..60_u64), 1..60),
    ) {
        let (pace, mut now, mut owed) = (Pace::default(), at(0), at(0));
        for (pause, rows) in requests {
            now = now.plus(Duration::from_secs(pause));
            let Some(turn) = pace.turn(&ladder, rows, now) else {
                prop_assert!(owed.since(now) > ladder.longest(), "it is refused only for what is owed");
                continue;
            };
            let begins = now.max(owed);
            prop_assert_eq!(now.plus(turn.held), begins.plus(turn.cost.min(ladder.longest())));
            prop_assert!(turn.held <= ladder.longest() * 2, "held for {:?}", turn.held);
            owed = begins.plus(turn.cost);
            prop_assert!(pace.0.lock().rows <= ladder.top(), "more is remembered than matters");
        }
    }

    /// A rest is no way to get more rows out of the same time than by asking on.
    #[test]
    fn nobody_gains_by_a_rest(rests in prop::collection::vec(0..4_000_u64, 1..40)) {
        let (ladder, pace) = (ladder(), Pace::default());
        let (mut now, mut rows) = (at(0), 0_u64);
        for rest in rests {
            now = now.plus(Duration::from_secs(rest));
            for _ in 0..10 {
                now = now.plus(pace.turn(&ladder, 1, now).unwrap().held);
                rows += 1;
            }
        }
        let span = now.since(at(0)).as_secs_f64();
        let steady = 60.0 + span / 30.0 + 10.0;
        prop_assert!((rows as f64) <= steady, "{} rows in {} s", rows, span);
    }
}
