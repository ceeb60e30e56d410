//! What must hold between a block and a refusal.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::pin;

use checkgate_detectors::engine::{Block, Outbox};
use checkgate_detectors::finding::{Kind, Mode, Record, Scope};
use checkgate_detectors::identity::{Address, Network, Standing};
use checkgate_detectors::query::QUERY;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::pace::Ladder;
use super::*;
use crate::records;

const NOW: Time = Time(1_700_000_000_000_000);
const ENFORCE: Origin = Origin { model: Some(0), mode: Mode::Enforce };
/// How long a block lasts here.
const RUNG: Duration = Duration::from_secs(600);
const OBSERVE: Origin = Origin { model: Some(0), mode: Mode::Observe };

struct Fixture {
    gate: Gate,
    metrics: Arc<Metrics>,
    told: Mutex<Vec<Record>>,
    state: tempfile::TempDir,
}

fn fixture() -> Fixture {
    with_brake(BrakeLimits { blocks_per_minute: 1000, share_of_clients: 1.0 })
}

fn with_brake(brake: BrakeLimits) -> Fixture {
    let state = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(&["prices".to_owned()], &["one_field_sweep"]).unwrap();
    let settings = GateSettings {
        blocks_max: 100,
        proven_keys_max: 100,
        brake,
        never_block: vec!["10.0.0.0/8".parse().unwrap()],
        at_most: Some(Duration::from_secs(86_400)),
        shared_addresses: Vec::new(),
        kill_switch: state.path().join("kill-switch"),
    };
    let gate = Gate::new(settings, Arc::clone(&metrics));
    Fixture { gate, metrics, told: Mutex::default(), state }
}

fn address(text: &str) -> Address {
    Address::of(text.parse::<IpAddr>().unwrap())
}

fn asker(text: &str, key: Option<u64>) -> Asker {
    Asker { address: address(text), standing: Standing::Declared, key, keys_verified: false }
}

const AIM: Aim<'static> = Aim { models: &["prices"], acts: true };

fn block(id: u64, client: Identity) -> Block {
    Block {
        id: DecisionId(id),
        client,
        action: Action::Block,
        time: NOW,
        acts_from: NOW,
        until: NOW.plus(RUNG),
        lasts: RUNG,
        may_act: true,
        clients_active: 100,
    }
}

fn by_address(id: u64, text: &str) -> Block {
    block(id, Identity::Address(address(text)))
}

impl Fixture {
    fn apply(&self, block: &Block, origin: Origin) -> Applied {
        self.apply_at(block, origin, NOW)
    }

    fn apply_at(&self, block: &Block, origin: Origin, now: Time) -> Applied {
        let why = records::tests::record(Kind::Decision, block.id.0);
        self.gate.apply(block, &why, (origin, &self.gate.rules.load()), now, &mut self.told.lock())
    }

    fn refuses(&self, asker: &Asker) -> bool {
        self.gate.admit(asker, AIM, NOW).is_some()
    }

    fn would_block(&self, reason: Reason) -> u64 {
        self.metrics.model(Some(0)).would_block.get(reason)
    }
}

#[test]
fn a_block_refuses_its_client_and_nobody_else_until_it_ends() {
    let it = fixture();
    assert_eq!(it.apply(&by_address(1, "192.0.2.1"), ENFORCE), Applied::Enforced);
    let refusal = it.gate.admit(&asker("192.0.2.1", None), AIM, NOW).unwrap();
    assert_eq!(refusal.decision, DecisionId(1));
    assert!(!it.refuses(&asker("192.0.2.2", None)));
    let end = NOW.plus(Duration::from_secs(600));
    assert_eq!(it.gate.admit(&asker("192.0.2.1", None), AIM, end), None);
    it.gate.tick(end);
    assert_eq!(it.metrics.blocks_active.get(), 0);
}

#[test]
fn another_gate_goes_on_with_what_was_in_force() {
    let (old, new) = (with_brake(BrakeLimits { blocks_per_minute: 2, share_of_clients: 1.0 }), fixture());
    old.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    old.apply(&block(2, Identity::Key(7)), ENFORCE);
    old.gate.note_proven(7);
    let bytes = postcard::to_stdvec(&old.gate.save(NOW)).unwrap();
    new.gate.restore(postcard::from_bytes(&bytes).unwrap(), NOW);
    assert!(new.refuses(&asker("192.0.2.1", None)) && new.refuses(&asker("192.0.2.9", Some(7))));
    assert_eq!(new.gate.list(NOW), old.gate.list(NOW), "with the evidence of each");
    let limits = BrakeLimits { blocks_per_minute: 2, share_of_clients: 1.0 };
    new.gate.adopt(Rules { brake: limits, ..Rules::default() }, 100);
    let third = new.apply(&by_address(3, "192.0.2.3"), ENFORCE);
    assert_eq!(third, Applied::Observed(Reason::Brake), "blocks of before count for the brake");
    old.gate.lift(DecisionId(1));
    new.gate.restore(old.gate.save(NOW), NOW);
    assert!(!new.refuses(&asker("192.0.2.1", None)), "a block that was lifted meanwhile is not in force");
}

#[test]
fn a_block_on_an_address_that_is_shared_throttles_it_and_its_keys_stay_blocked() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    it.apply(&by_address(2, "192.0.2.2"), ENFORCE);
    it.apply(&block(3, Identity::Key(7)), ENFORCE);
    let shared = Networks::new([("192.0.2.1".parse().unwrap(), 32)]);
    it.gate.adopt(Rules { shared, ..Rules::default() }, 100);
    let enters = |text: &str, key| it.gate.enter(&asker(text, key), AIM, 2, NOW).map(|told| told.throttled);
    assert_eq!(enters("192.0.2.1", None), None, "the first of two requests a minute");
    assert_eq!(enters("192.0.2.1", None), None);
    assert_eq!(enters("192.0.2.1", None), Some(true), "it is throttled, not blocked");
    assert_eq!(it.gate.degrades(&asker("192.0.2.1", None), AIM, NOW), None);
    assert_eq!(enters("192.0.2.2", None), Some(false), "an address that nobody shares stays blocked");
    assert_eq!(enters("192.0.2.1", Some(7)), Some(false), "so does a key behind the shared address");
}

#[test]
fn other_rules_hold_at_once_and_leave_blocks_in_force() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    it.apply(&by_address(2, "192.0.2.2"), ENFORCE);
    let spared = Networks::new([("192.0.2.1".parse().unwrap(), 32)]);
    it.gate.adopt(Rules { spared, ..Rules::default() }, 100);
    assert!(!it.refuses(&asker("192.0.2.1", None)), "it is spared now");
    assert!(it.refuses(&asker("192.0.2.2", None)), "the other block stays");
}

#[test]
fn in_observe_nothing_ever_acts() {
    let it = fixture();
    assert_eq!(it.apply(&by_address(1, "192.0.2.1"), OBSERVE), Applied::Observed(Reason::Mode));
    assert!(!it.refuses(&asker("192.0.2.1", None)), "a block of an observing model refused a request");
    it.apply(&by_address(2, "192.0.2.2"), ENFORCE);
    let observing = it.gate.admit(&asker("192.0.2.2", None), Aim { acts: false, ..AIM }, NOW);
    assert_eq!(observing, None, "an observing model refused a client that another model blocked");
    assert_eq!(it.would_block(Reason::Mode), 1);
}

#[test]
fn the_never_block_list_beats_everything() {
    let it = fixture();
    assert_eq!(it.apply(&by_address(1, "10.1.2.3"), ENFORCE), Applied::Observed(Reason::NeverBlock));
    it.apply(&block(2, Identity::Key(7)), ENFORCE);
    assert!(!it.refuses(&asker("10.1.2.3", Some(7))), "a key's block reached an address on the list");
    assert!(it.refuses(&asker("192.0.2.1", Some(7))));
}

#[test]
fn what_is_unproven_or_unexplained_does_not_act() {
    let it = fixture();
    let unproven = Block { may_act: false, ..by_address(1, "192.0.2.1") };
    assert_eq!(it.apply(&unproven, ENFORCE), Applied::Observed(Reason::Unproven));
    let another = records::tests::record(Kind::Decision, 99);
    let applied = it.gate.apply(
        &by_address(2, "192.0.2.2"),
        &another,
        (ENFORCE, &it.gate.rules.load()),
        NOW,
        &mut Vec::new(),
    );
    assert_eq!(applied, Applied::Observed(Reason::NoEvidence));
    let out = Outbox { blocks: vec![by_address(3, "192.0.2.3")], ..Outbox::default() };
    it.gate.apply_all(&out, ENFORCE, &it.gate.rules.load());
    assert_eq!(it.would_block(Reason::NoEvidence), 2);
    assert!(["192.0.2.1", "192.0.2.2", "192.0.2.3"].iter().all(|text| !it.refuses(&asker(text, None))));
}

#[test]
fn a_proven_key_is_innocent_of_its_address_and_answers_for_itself() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    assert!(it.refuses(&asker("192.0.2.1", Some(7))), "any key would be a way around the block");
    it.gate.note_proven(7);
    assert!(!it.refuses(&asker("192.0.2.1", Some(7))), "a customer behind a blocked address was refused");
    assert!(it.refuses(&asker("192.0.2.1", Some(8))));
    assert!(it.refuses(&asker("192.0.2.1", None)));
    it.apply(&block(2, Identity::Key(7)), ENFORCE);
    assert!(it.refuses(&asker("192.0.2.1", Some(7))));
    assert!(it.refuses(&asker("198.51.100.1", Some(7))), "a blocked key moved to another address");
}

#[test]
fn a_step_of_a_lane_is_taken_whole() {
    let it = fixture();
    let out = Outbox {
        records: vec![records::tests::record(Kind::Finding, 1), records::tests::record(Kind::Decision, 1)],
        blocks: vec![by_address(1, "192.0.2.1")],
        proven_keys: vec![7],
        ..Outbox::default()
    };
    it.gate.apply_all(&out, ENFORCE, &it.gate.rules.load());
    assert!(it.refuses(&asker("192.0.2.1", None)));
    assert!(!it.refuses(&asker("192.0.2.1", Some(7))));
    let listed = it.gate.list(NOW);
    let evidence: Vec<_> = listed.iter().map(|block| block.evidence.to_string()).collect();
    assert_eq!(evidence, [records::line(&out.records[1])], "the block must carry its decision's record");
}

#[test]
fn the_kill_switch_lets_everybody_through_and_new_blocks_stay_observations() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    it.gate.set_kill_switch(true).unwrap();
    assert!(!it.refuses(&asker("192.0.2.1", None)));
    assert_eq!(it.metrics.kill_switch.get(), 1);
    assert_eq!(it.apply(&by_address(2, "192.0.2.2"), ENFORCE), Applied::Observed(Reason::KillSwitch));
    it.gate.set_kill_switch(false).unwrap();
    assert!(it.refuses(&asker("192.0.2.1", None)), "a block from before holds again");
    assert!(!it.refuses(&asker("192.0.2.2", None)), "an observation came into force by itself");
}

#[test]
fn the_kill_switch_follows_its_file_at_the_next_tick() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    kill_switch::write(&it.state.path().join("kill-switch"), true).unwrap();
    it.gate.tick(NOW);
    assert!(!it.refuses(&asker("192.0.2.1", None)));
}

#[test]
fn enforcement_is_off_within_a_second_of_the_file() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    let gate = Arc::new(it.gate);
    gate.watch(|| NOW, |_, _| {}).unwrap();
    let (start, asker) = (std::time::Instant::now(), asker("192.0.2.1", None));
    kill_switch::write(&it.state.path().join("kill-switch"), true).unwrap();
    while gate.admit(&asker, AIM, NOW).is_some() {
        assert!(start.elapsed() < Duration::from_secs(1), "the watcher is too slow");
        thread::yield_now();
    }
}

#[test]
fn the_brake_turns_blocks_into_observations_and_says_so_once() {
    let it = with_brake(BrakeLimits { blocks_per_minute: 3, share_of_clients: 1.0 });
    let clients: Vec<String> = (1..=6).map(|last| format!("192.0.2.{last}")).collect();
    let applied: Vec<Applied> = clients
        .iter()
        .zip(1..)
        .map(|(client, id)| it.apply(&Block { clients_active: 1000, ..by_address(id, client) }, ENFORCE))
        .collect();
    let braked = Applied::Observed(Reason::Brake);
    assert_eq!(applied, [Applied::Enforced, Applied::Enforced, Applied::Enforced, braked, braked, braked]);
    let refused: Vec<bool> = clients.iter().map(|client| it.refuses(&asker(client, None))).collect();
    assert_eq!(refused, [true, true, true, false, false, false]);
    let findings = it.told.lock().clone();
    assert_eq!(findings.len(), 1, "one loud finding, not one to a block");
    assert!(findings[0].detector == BRAKE && findings[0].explanation.contains("d-0000000000000004"));
    assert_eq!((it.metrics.brake_trips.get(), it.metrics.brake_engaged.get()), (1, 1));
    let later = NOW.plus(brake::MINUTE);
    it.gate.tick(later);
    assert_eq!(it.metrics.brake_engaged.get(), 0);
    let again = Block { clients_active: 1000, ..by_address(9, "192.0.2.9") };
    assert_eq!(it.apply_at(&again, ENFORCE, later), Applied::Enforced);
}

#[test]
fn the_brake_of_one_model_leaves_the_others_alone_and_judges_in_either_mode() {
    let it = with_brake(BrakeLimits { blocks_per_minute: 3, share_of_clients: 1.0 });
    let mut of_another = records::tests::record(Kind::Decision, 0);
    of_another.model = "another".into();
    for id in 1..100 {
        let block = by_address(id, "192.0.2.1");
        let why = Record { decision_id: Some(block.id), ..of_another.clone() };
        let applied = it.gate.apply(&block, &why, (OBSERVE, &it.gate.rules.load()), NOW, &mut Vec::new());
        let expected = if id <= 3 { Reason::Mode } else { Reason::Brake };
        assert_eq!(
            applied,
            Applied::Observed(expected),
            "block {id}: what is told must not depend on the mode"
        );
    }
    assert_eq!(it.apply(&by_address(100, "192.0.2.2"), ENFORCE), Applied::Enforced);
}

#[test]
fn waiting_requests_hear_of_blocks_that_act_and_of_no_others() {
    let it = fixture();
    let mut changed = pin!(it.gate.changed());
    it.apply(&by_address(1, "192.0.2.1"), OBSERVE);
    assert!(!changed.as_mut().enable(), "nothing acts");
    it.apply(&by_address(2, "192.0.2.2"), ENFORCE);
    assert!(changed.as_mut().enable());
    let mut changed = pin!(it.gate.changed());
    assert!(!changed.as_mut().enable(), "nothing has changed since");
    it.apply(&by_address(3, "192.0.2.3"), ENFORCE);
    assert!(changed.as_mut().enable());
}

#[test]
fn a_lifted_decision_refuses_nobody() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    assert_eq!(it.gate.lift(DecisionId(1)).map(|block| block.id), Some(DecisionId(1)));
    assert!(!it.refuses(&asker("192.0.2.1", None)));
    assert_eq!(it.metrics.blocks_active.get(), 0);
    assert_eq!(it.gate.lift(DecisionId(1)), None);
}

#[test]
fn the_wait_is_the_whole_rung_from_the_first_second_to_the_last() {
    let it = fixture();
    it.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    let last = Time(NOW.plus(RUNG).0 - 1);
    let told = [NOW, NOW.plus(RUNG / 2), last].map(|now| it.gate.admit(&asker("192.0.2.1", None), AIM, now));
    assert_eq!(told, [Some(Refusal { decision: DecisionId(1), throttled: false, retry_after: RUNG }); 3]);
}

#[test]
fn a_refusal_is_made_of_three_values_that_no_score_reaches() {
    let it = fixture();
    let by = |id: u64, client: &str, detector: &'static str, statistic: f64| {
        let block = by_address(id, client);
        let why = records::tests::record(Kind::Decision, id);
        let why =
            Record { detector, statistic, limit: statistic / 2.0, fields: vec![detector.into()], ..why };
        it.gate.apply(&block, &why, (ENFORCE, &it.gate.rules.load()), NOW, &mut Vec::new());
        it.gate.admit(&asker(client, None), AIM, NOW).unwrap()
    };
    // Taken apart by name: a value that is added to a refusal does not compile here before somebody looks at it.
    let Refusal { decision, throttled, retry_after } = by(1, "192.0.2.1", "one_field_sweep", 12.0);
    let other = by(2, "192.0.2.2", "near_density", 1e9);
    assert_eq!((decision, throttled, retry_after), (DecisionId(1), other.throttled, other.retry_after));
}

#[test]
fn evicted_blocks_and_keys_are_counted() {
    let it = fixture();
    for id in 0..150 {
        it.apply(&block(id, Identity::Key(id)), ENFORCE);
        it.gate.note_proven(id);
    }
    assert_eq!((it.metrics.blocks_active.get(), it.metrics.blocks_evicted.get()), (100, 50));
    assert_eq!((it.metrics.proven_keys.get(), it.metrics.proven_keys_evicted.get()), (100, 50));
}

fn throttle(id: u64, text: &str) -> Block {
    Block { action: Action::Throttle, ..by_address(id, text) }
}

fn degrade(id: u64, text: &str) -> Block {
    Block { action: Action::Degrade, ..by_address(id, text) }
}

impl Fixture {
    /// What a new request gets under a throttle of two requests a minute.
    fn enters(&self, text: &str, now: Time) -> Option<(bool, Duration)> {
        let refusal = self.gate.enter(&asker(text, None), AIM, 2, now)?;
        Some((refusal.throttled, refusal.retry_after))
    }

    fn degrades(&self, text: &str) -> bool {
        self.gate.degrades(&asker(text, None), AIM, NOW).is_some()
    }
}

#[test]
fn a_throttle_lets_so_many_requests_a_minute_through() {
    let it = fixture();
    assert_eq!(it.apply(&throttle(1, "192.0.2.1"), ENFORCE), Applied::Enforced);
    let refused = Some((true, allowance::SPAN));
    let told: Vec<_> =
        (0..4).map(|second| it.enters("192.0.2.1", NOW.plus(Duration::from_secs(second)))).collect();
    assert_eq!(told, [None, None, refused, refused]);
    assert_eq!(it.enters("192.0.2.1", NOW.plus(allowance::SPAN)), None, "the next minute");
    assert!(
        !it.refuses(&asker("192.0.2.1", None)),
        "a request that was let in is not refused for a throttle"
    );
    assert_eq!(it.enters("192.0.2.2", NOW), None, "another client");
    assert_eq!(it.metrics.throttles_active.get(), 1);
}

#[test]
fn a_degraded_client_is_let_in_and_its_answers_are_degraded() {
    let it = fixture();
    it.apply(&degrade(1, "192.0.2.1"), ENFORCE);
    assert_eq!(it.enters("192.0.2.1", NOW), None);
    assert_eq!([it.degrades("192.0.2.1"), it.degrades("192.0.2.2")], [true, false]);
    assert_eq!((it.metrics.degrades_active.get(), it.metrics.blocks_active.get()), (1, 0));
    it.apply(&by_address(2, "192.0.2.1"), ENFORCE);
    assert_eq!(it.enters("192.0.2.1", NOW), Some((false, RUNG)), "the stronger decision acts");
}

fn detector() -> impl Strategy<Value = &'static str> {
    prop::sample::select(QUERY).prop_map(|spec| spec.name)
}

proptest! {
    /// Two clients that did the same under decisions that have nothing else in common.
    #[test]
    fn the_turns_of_degraded_clients_are_the_same_for_whatever_was_found(
        requests in prop::collection::vec((0..200_u64, 1..30_u64, any::<bool>()), 1..40),
        detectors in (detector(), detector()),
        values in (0.0..1e9_f64, 0.0..1e9_f64),
    ) {
        let it = fixture();
        let clients = ["192.0.2.1", "192.0.2.2"];
        for (id, (detector, value)) in [(1, (detectors.0, values.0)), (2, (detectors.1, values.1))] {
            let lasts = RUNG * (1 + u32::from(value > 5e8));
            let block = Block { lasts, until: NOW.plus(RUNG * 50), ..degrade(id, clients[id as usize - 1]) };
            let why = Record { detector, statistic: value, ..records::tests::record(Kind::Decision, id) };
            it.gate.apply(&block, &why, (ENFORCE, &it.gate.rules.load()), NOW, &mut it.told.lock());
        }
        let (ladder, mut now) = (Ladder::default(), NOW);
        for (pause, rows, enters) in requests {
            now = now.plus(Duration::from_secs(pause));
            let told = clients.map(|client| {
                let degraded = it.gate.degrades(&asker(client, None), AIM, now)?;
                let place = enters.then(|| degraded.pace.enter(&ladder, now).is_some());
                Some((place, degraded.pace.turn(&ladder, rows, now)))
            });
            prop_assert_eq!(told[0], told[1]);
        }
    }
}

#[test]
fn what_is_weaker_than_a_block_obeys_everything_that_a_block_obeys() {
    for (weak, spared) in [
        (throttle(1, "192.0.2.1"), throttle(2, "10.1.2.3")),
        (degrade(1, "192.0.2.1"), degrade(2, "10.1.2.3")),
    ] {
        let acts =
            |it: &Fixture| it.degrades("192.0.2.1") || (0..3).any(|_| it.enters("192.0.2.1", NOW).is_some());
        let it = fixture();
        assert_eq!(it.apply(&weak, OBSERVE), Applied::Observed(Reason::Mode));
        assert_eq!(it.apply(&spared, ENFORCE), Applied::Observed(Reason::NeverBlock));
        assert_eq!(
            it.apply(&Block { may_act: false, ..weak.clone() }, ENFORCE),
            Applied::Observed(Reason::Unproven)
        );
        assert!(!acts(&it));
        it.apply(&weak, ENFORCE);
        assert!(acts(&it));
        it.gate.set_kill_switch(true).unwrap();
        assert!(!acts(&it), "under the kill switch");
        it.gate.set_kill_switch(false).unwrap();
        it.gate.lift(DecisionId(1));
        assert!(!acts(&it), "after it was lifted");
        let braked = with_brake(BrakeLimits { blocks_per_minute: 0, share_of_clients: 1.0 });
        assert_eq!(braked.apply(&weak, ENFORCE), Applied::Observed(Reason::Brake));
        assert!(!acts(&braked));
    }
}

fn tag(id: u64, text: &str) -> Block {
    Block { action: Action::Tag, ..by_address(id, text) }
}

/// A proposal that only an operator approves, within a minute.
fn proposal(id: u64, text: &str) -> Block {
    let until = NOW.plus(Duration::from_secs(60));
    Block { acts_from: Time::NEVER, until, ..by_address(id, text) }
}

/// One that approves itself after ten seconds.
fn self_approving(id: u64, text: &str) -> Block {
    let acts_from = NOW.plus(Duration::from_secs(10));
    Block { acts_from, until: acts_from.plus(RUNG), ..by_address(id, text) }
}

#[test]
fn a_tagged_client_is_served_and_its_requests_name_the_decision() {
    let it = fixture();
    it.apply(&tag(1, "192.0.2.1"), ENFORCE);
    let tags = |text: &str, acts| it.gate.tags(&asker(text, None), acts, NOW);
    assert_eq!(it.enters("192.0.2.1", NOW), None);
    assert_eq!(tags("192.0.2.1", AIM), Some(DecisionId(1)));
    assert_eq!(
        (tags("192.0.2.1", Aim { acts: false, ..AIM }), tags("192.0.2.2", AIM)),
        (None, None),
        "observing, or another client"
    );
    assert_eq!((it.metrics.tags_active.get(), it.metrics.blocks_active.get()), (1, 0));
    it.apply(&throttle(2, "192.0.2.1"), ENFORCE);
    assert_eq!(tags("192.0.2.1", AIM), None, "the stronger decision acts");
}

#[test]
fn a_proposal_acts_once_it_is_approved_and_for_as_long_as_it_was_to_last() {
    let it = fixture();
    assert_eq!(it.apply(&proposal(1, "192.0.2.1"), ENFORCE), Applied::Proposed);
    assert!(!it.refuses(&asker("192.0.2.1", None)));
    assert_eq!((it.metrics.proposals.get(), it.metrics.blocks_active.get()), (1, 0));
    let later = NOW.plus(Duration::from_secs(50));
    let approved = it.gate.approve(DecisionId(1), later).unwrap();
    assert_eq!((approved.acts, approved.acts_from, approved.until), (true, later, later.plus(RUNG)));
    let refused = |now| it.gate.admit(&asker("192.0.2.1", None), AIM, now).is_some();
    assert_eq!((refused(later), refused(later.plus(RUNG))), (true, false));
    assert_eq!((it.metrics.proposals.get(), it.metrics.blocks_active.get()), (0, 1));
    assert_eq!(it.gate.approve(DecisionId(1), later), None, "it is approved already");
    assert_eq!(it.gate.reject(DecisionId(1), later), None, "what acts is lifted, not rejected");
}

#[test]
fn a_rejected_or_late_proposal_never_acts() {
    let it = fixture();
    it.apply(&proposal(1, "192.0.2.1"), ENFORCE);
    it.apply(&proposal(2, "192.0.2.2"), ENFORCE);
    assert_eq!(it.gate.reject(DecisionId(1), NOW).map(|block| block.id), Some(DecisionId(1)));
    assert_eq!(it.gate.approve(DecisionId(1), NOW), None);
    let late = NOW.plus(Duration::from_secs(60));
    assert_eq!(it.gate.approve(DecisionId(2), late), None, "nobody approved it in time");
    it.gate.tick(late);
    assert_eq!(it.metrics.proposals.get(), 0);
}

#[test]
fn a_proposal_that_approves_itself_needs_nobody_and_waiting_requests_hear_of_it() {
    let it = fixture();
    let mut changed = pin!(it.gate.changed());
    assert_eq!(it.apply(&self_approving(1, "192.0.2.1"), ENFORCE), Applied::Proposed);
    assert!(!changed.as_mut().enable() && !it.refuses(&asker("192.0.2.1", None)));
    let due = NOW.plus(Duration::from_secs(10));
    assert!(it.gate.admit(&asker("192.0.2.1", None), AIM, due).is_some(), "without a tick");
    it.gate.tick(due);
    assert!(changed.as_mut().enable());
    assert_eq!((it.metrics.proposals.get(), it.metrics.blocks_active.get()), (0, 1));
    it.apply(&self_approving(2, "192.0.2.2"), ENFORCE);
    assert!(it.gate.reject(DecisionId(2), NOW).is_some());
    assert!(it.gate.admit(&asker("192.0.2.2", None), AIM, due).is_none(), "it was rejected before its time");
}

#[test]
fn no_decision_lasts_longer_than_the_operator_allows_whoever_takes_it() {
    let it = fixture();
    let day = Duration::from_secs(86_400);
    let long = |id| Block { until: NOW.plus(day * 9), lasts: day * 9, ..by_address(id, "192.0.2.1") };
    it.apply(&long(1), ENFORCE);
    it.gate.impose(&long(2), &records::tests::record(Kind::Decision, 2), "operator", NOW);
    it.apply(&Block { acts_from: Time::NEVER, ..long(3) }, ENFORCE);
    it.gate.approve(DecisionId(3), NOW).unwrap();
    let ends: BTreeSet<_> = it.gate.list(NOW).iter().map(|block| (block.until, block.lasts)).collect();
    assert_eq!(ends, BTreeSet::from([(NOW.plus(day), day)]), "also by what a refused client is told");
}

/// How a decision comes to the gate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Lane,
    Operator,
    Program,
    Approval,
}

/// What stands in its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Obstacle {
    Nothing,
    NeverBlock,
    KillSwitch,
    Observe,
    Brake,
}

impl Source {
    /// Sends a decision this way; whether it acts afterwards on a request of its client to an enforcing model.
    fn decide(self, it: &Fixture, id: u64, client: &str, mode: Mode) -> bool {
        let why = Record { mode, ..records::tests::record(Kind::Decision, id) };
        let origin = Origin { model: Some(0), mode };
        match self {
            Self::Lane => _ = it.apply(&by_address(id, client), origin),
            Self::Operator => _ = it.gate.impose(&by_address(id, client), &why, "operator", NOW),
            Self::Program => _ = it.gate.impose(&by_address(id, client), &why, "siem", NOW),
            Self::Approval => {
                it.apply(&proposal(id, client), origin);
                it.gate.approve(DecisionId(id), NOW).unwrap();
            }
        }
        it.refuses(&asker(client, None))
    }
}

#[test]
fn what_holds_back_a_decision_holds_back_every_source_of_decisions() {
    use Obstacle::{Brake, KillSwitch, NeverBlock, Nothing, Observe};
    for source in [Source::Lane, Source::Operator, Source::Program, Source::Approval] {
        for obstacle in [Nothing, NeverBlock, KillSwitch, Observe, Brake] {
            let rate = if obstacle == Brake { 1 } else { 1000 };
            let it = with_brake(BrakeLimits { blocks_per_minute: rate, share_of_clients: 1.0 });
            it.gate.set_kill_switch(obstacle == KillSwitch).unwrap();
            let mode = if obstacle == Observe { Mode::Observe } else { Mode::Enforce };
            let client = if obstacle == NeverBlock { "10.1.2.3" } else { "192.0.2.1" };
            let first = source.decide(&it, 1, client, mode);
            let second =
                source.decide(&it, 2, if obstacle == NeverBlock { client } else { "192.0.2.2" }, mode);
            it.gate.set_kill_switch(false).unwrap();
            let expected = match obstacle {
                Nothing => (true, true),
                Brake => (true, false),
                NeverBlock | KillSwitch | Observe => (false, false),
            };
            assert_eq!((first, second), expected, "{source:?} against {obstacle:?}");
            let revived = it.refuses(&asker("192.0.2.2", None));
            assert_eq!(revived, obstacle == Nothing, "{source:?}: an observation came into force by itself");
        }
    }
}

#[test]
fn each_source_has_a_brake_of_its_own() {
    let it = with_brake(BrakeLimits { blocks_per_minute: 1, share_of_clients: 0.0 });
    let impose = |id: u64, source: &str| {
        let why = records::tests::record(Kind::Decision, id);
        let block = Block { clients_active: 0, ..by_address(id, "192.0.2.1") };
        it.gate.impose(&block, &why, source, NOW)
    };
    let braked = Applied::Observed(Reason::Brake);
    let applied = [impose(1, "siem"), impose(2, "siem"), impose(3, "operator"), impose(4, "siem")];
    assert_eq!(applied, [Applied::Enforced, braked, Applied::Enforced, braked]);
    assert!(it.gate.brake_is_engaged(NOW) && it.metrics.brake_trips.get() == 1);
}

#[test]
fn proposals_and_brakes_of_sources_go_on_in_another_process() {
    let (old, new) = (with_brake(BrakeLimits { blocks_per_minute: 1, share_of_clients: 1.0 }), fixture());
    old.apply(&proposal(1, "192.0.2.1"), ENFORCE);
    old.apply(&self_approving(2, "192.0.2.2"), ENFORCE);
    let bytes = postcard::to_stdvec(&old.gate.save(NOW)).unwrap();
    new.gate.restore(postcard::from_bytes(&bytes).unwrap(), NOW);
    assert_eq!(new.gate.list(NOW), old.gate.list(NOW));
    assert!(new.gate.approve(DecisionId(1), NOW).unwrap().acts);
    let due = NOW.plus(Duration::from_secs(10));
    assert!(new.gate.admit(&asker("192.0.2.2", None), AIM, due).is_some());
}

#[test]
fn requests_that_met_a_decision_are_counted_whether_it_acts_or_not() {
    let fixture = fixture();
    let came = |text: &str, key: Option<u64>, acts: bool, times: usize| {
        (0..times).for_each(|_| _ = fixture.gate.enter(&asker(text, key), Aim { acts, ..AIM }, 100, NOW));
    };
    fixture.apply(&by_address(1, "192.0.2.1"), ENFORCE);
    fixture.apply(&by_address(2, "192.0.2.2"), OBSERVE);
    fixture.apply(&block(3, Identity::Key(7)), OBSERVE);
    came("192.0.2.1", None, true, 5);
    came("192.0.2.2", None, true, 3);
    came("192.0.2.2", None, false, 1);
    came("192.0.2.3", Some(7), false, 2);
    came("192.0.2.9", None, false, 4);
    let met = |id: u64| {
        let blocks = fixture.gate.list(NOW);
        blocks.iter().find(|block| block.id == DecisionId(id)).map(|block| block.met.requests())
    };
    assert_eq!([1, 2, 3].map(met), [Some(5), Some(4), Some(2)]);
    fixture.gate.lift(DecisionId(1));
    let mut ended = fixture.gate.tick(NOW.plus(RUNG)).ended;
    ended.sort_unstable_by_key(|ended| ended.id);
    let counts: Vec<_> = ended.iter().map(|ended| (ended.id.0, ended.requests)).collect();
    assert_eq!(counts, [(1, 5), (2, 4), (3, 2)], "what ended says what it met, once");
    assert!(fixture.gate.tick(NOW.plus(RUNG)).ended.is_empty());
}

#[test]
fn a_decision_at_one_model_leaves_the_others_alone() {
    let it = fixture();
    let at_prices = |id| {
        let mut why = records::tests::record(Kind::Decision, id);
        (why.model, why.grounds.scope) = ("prices".into(), Some(Scope::Model));
        why
    };
    let block = by_address(1, "192.0.2.1");
    let applied =
        it.gate.apply(&block, &at_prices(1), (ENFORCE, &it.gate.rules.load()), NOW, &mut Vec::new());
    assert_eq!(applied, Applied::Enforced);
    let asker = asker("192.0.2.1", None);
    let refuses =
        |gate: &Gate, models: &[&str]| gate.admit(&asker, Aim { models, acts: true }, NOW).is_some();
    let other = fixture();
    let bytes = postcard::to_stdvec(&it.gate.save(NOW)).unwrap();
    other.gate.restore(postcard::from_bytes(&bytes).unwrap(), NOW);
    for (gate, after) in [(&it.gate, "at once"), (&other.gate, "after a hand-over")] {
        assert!(refuses(gate, &["prices"]) && refuses(gate, &["digits", "prices"]), "{after}");
        assert!(!refuses(gate, &["digits"]) && !refuses(gate, &[]), "another model, {after}");
        assert_eq!(
            (gate.on_addresses(NOW), gate.kept_from_bouncers(NOW)),
            (Vec::new(), 1),
            "no bouncer hears of it"
        );
    }
    it.gate.apply(
        &by_address(2, "192.0.2.1"),
        &records::tests::record(Kind::Decision, 2),
        (ENFORCE, &it.gate.rules.load()),
        NOW,
        &mut Vec::new(),
    );
    assert!(refuses(&it.gate, &["digits"]), "one without a scope holds everywhere");
    assert_eq!(it.gate.on_addresses(NOW).len(), 1);
}

#[test]
fn an_observation_at_one_model_counts_the_requests_to_that_model_alone() {
    let it = fixture();
    let mut why = records::tests::record(Kind::Decision, 1);
    (why.model, why.grounds.scope) = ("prices".into(), Some(Scope::Model));
    let block = by_address(1, "192.0.2.1");
    it.gate.apply(&block, &why, (OBSERVE, &it.gate.rules.load()), NOW, &mut Vec::new());
    for model in ["prices", "digits", "prices"] {
        let aim = Aim { models: &[model], acts: false };
        assert_eq!(it.gate.enter(&asker("192.0.2.1", None), aim, 2, NOW), None);
    }
    assert_eq!(it.gate.standing(DecisionId(1)).unwrap().met.requests(), 2);
}

#[test]
fn a_decision_on_a_network_meets_its_clients_and_spares_whom_the_list_spares() {
    let it = fixture();
    let network =
        |text: &str, length| Identity::Network(Network::around(text.parse().unwrap(), length).unwrap());
    it.apply(&block(1, network("192.0.2.0", 24)), ENFORCE);
    it.apply(&block(2, network("2001:db8:1::", 48)), ENFORCE);
    for (text, expected) in [
        ("192.0.2.1", true),
        ("192.0.2.255", true),
        ("192.0.3.1", false),
        ("2001:db8:1:7::9", true),
        ("2001:db8:2::9", false),
    ] {
        assert_eq!(it.refuses(&asker(text, None)), expected, "{text}");
    }
    it.gate.note_proven(7);
    assert!(!it.refuses(&asker("192.0.2.1", Some(7))), "a proven key stands for itself");
    it.gate.spare(&["192.0.2.8/29".parse().unwrap()]);
    assert!(!it.refuses(&asker("192.0.2.9", None)), "spared within the network");
    assert!(it.refuses(&asker("192.0.2.7", None)), "and nobody else");
    assert_eq!(
        (it.gate.on_addresses(NOW).len(), it.gate.kept_from_bouncers(NOW)),
        (0, 2),
        "no bouncer is told"
    );
    assert_eq!(it.gate.lift(DecisionId(1)).map(|block| block.id), Some(DecisionId(1)));
    assert!(!it.refuses(&asker("192.0.2.1", None)));
    assert_eq!(
        it.gate.table.networks_around(address("192.0.2.1")).count(),
        0,
        "nothing is looked up any more"
    );
    it.gate.spare(&["2001:db8::/32".parse().unwrap()]);
    assert!(it.gate.spares(&network("2001:db8:1::", 48)) && !it.gate.spares(&network("2001::", 16)));
    let over_spared = it.gate.impose(
        &block(3, network("2001:db8:7::", 48)),
        &records::tests::record(Kind::Decision, 3),
        "ops",
        NOW,
    );
    assert_eq!(over_spared, Applied::Observed(Reason::NeverBlock), "all of it is spared");
}
