//! Who is named for a shift, in populations of clients with habits of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod drift_streams;

use drift_streams::crowd::{Crowd, Scenario};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

#[test]
fn whoever_is_behind_a_shift_is_named_and_nobody_else() {
    let scenarios =
        [Scenario::Attacker(0.05), Scenario::Attacker(0.1), Scenario::Changes(0.1), Scenario::Botnet(0.08)];
    for seed in SEEDS {
        let mut crowd = Crowd::new(seed);
        for scenario in scenarios {
            let found = crowd.ask(scenario);
            let named: Vec<_> = found.named.iter().map(|named| (named.level, named.sender)).collect();
            assert!(found.shifted, "{scenario:?}, seed {seed}: {found:?}");
            assert_eq!(
                named.first().copied(),
                crowd.culprit(scenario),
                "{scenario:?}, seed {seed}: {found:?}"
            );
            assert_eq!(named.len(), 1, "{scenario:?}, seed {seed}: {found:?}");
            let first = found.named[0];
            assert!(first.after < first.before && first.share < 0.3, "{scenario:?}: {first:?}");
        }
    }
}

#[test]
fn a_small_attacker_is_watched_before_the_whole_has_shifted() {
    for seed in SEEDS {
        let mut crowd = Crowd::new(seed);
        let scenario = Scenario::Attacker(0.02);
        let found = crowd.ask(scenario);
        let (level, sender) = crowd.culprit(scenario).unwrap();
        let watched =
            found.unlike.iter().any(|one| (one.level, one.sender, one.known) == (level, sender, false));
        assert!(watched, "seed {seed}: {found:?}");
    }
}

#[test]
fn nobody_is_named_where_no_client_is_to_blame() {
    let calm =
        [Scenario::Calm, Scenario::AllShift(0.3), Scenario::Grows(0.25), Scenario::HonestNewcomer(0.05)];
    for seed in SEEDS {
        let mut crowd = Crowd::new(seed);
        for scenario in calm {
            let found = crowd.ask(scenario);
            assert!(found.named.is_empty(), "{scenario:?}, seed {seed}: {found:?}");
        }
        let all = crowd.ask(Scenario::AllShift(0.3));
        assert!(all.shifted && all.systemic, "many known clients changed at once, seed {seed}: {all:?}");
    }
}
