use checkgate_detectors::identity::Asker;
use checkgate_detectors::identity::Standing;

use checkgate_detectors::identity::Address;

use super::*;
use crate::gate::GateSettings;
use crate::gate::brake::BrakeLimits;
use crate::identity::written as client;
use crate::ledger::book::Bounds;
use crate::metrics::Metrics;
use crate::records::tests::silent;
use crate::state::candidates::Summary;
use crate::state::candidates::tests::candidate;

const NOW: Time = Time(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Lanes that remember what they heard.
#[derive(Default)]
struct Ears(Mutex<Vec<DecisionId>>);

impl Hears for Ears {
    fn lift(&self, id: DecisionId) {
        self.0.lock().push(id);
    }

    fn approve(&self, _: DecisionId, _: Time) {}

    fn reject(&self, id: DecisionId) {
        self.lift(id);
    }

    fn promote(&self, model: &str) -> Result<Promotion, NotPromoted> {
        let promotion = Promotion { rows: 500, kept: true };
        if model == "prices" { Ok(promotion) } else { Err(NotPromoted::Nothing) }
    }

    fn promote_candidate(&self, model: &str) -> Result<(Summary, bool), NotPromoted> {
        if model == "prices" { Ok((candidate(model).summary, true)) } else { Err(NotPromoted::Nothing) }
    }
}

struct House {
    control: Control,
    gate: Arc<Gate>,
    ledger: Arc<Ledger>,
    ears: Arc<Ears>,
    directory: tempfile::TempDir,
}

fn house() -> House {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(&["prices".to_owned()], &[]).unwrap();
    let outlet = Arc::new(silent(&metrics));
    let settings = GateSettings {
        blocks_max: 100,
        proven_keys_max: 100,
        brake: BrakeLimits { blocks_per_minute: 100, share_of_clients: 1.0 },
        never_block: vec!["198.51.100.0/24".parse().unwrap()],
        at_most: None,
        shared_addresses: Vec::new(),
        kill_switch: directory.path().join("kill-switch"),
    };
    let gate = Arc::new(Gate::new(settings, metrics));
    let ledger = Arc::new(Ledger::in_memory(Bounds::default()));
    let ears = Arc::<Ears>::default();
    let control = Control::new(Rooms {
        gate: Arc::clone(&gate),
        ledger: Arc::clone(&ledger),
        outlet,
        lanes: Arc::clone(&ears) as Arc<dyn Hears>,
        modes: Box::new(|| Modes {
            named: vec![("prices".into(), Mode::Enforce), ("digits".into(), Mode::Observe)],
            others: None,
        }),
        configured: Box::new(|| vec!["198.51.100.0/24".parse().unwrap()]),
        widest: Box::new(|| checkgate_config::settings::WidestPrefix { ipv4: 24, ipv6: 48 }),
        instance_key: [7; 16],
    });
    House { control, gate, ledger, ears, directory }
}

fn by() -> By {
    By { who: "ci".into(), from: Some("127.0.0.1".into()), why: "a test".into() }
}

fn order(address: &str, model: Option<&str>) -> Order {
    let client = client(address).unwrap();
    Order { client, action: Action::Block, lasts: HOUR, model: model.map(str::to_owned) }
}

impl House {
    fn refuses(&self, address: &str, now: Time) -> bool {
        let address = Address::of(address.parse().unwrap());
        let asker = Asker { address, standing: Standing::Declared, key: None, keys_verified: false };
        self.gate.enter(&asker, crate::gate::Aim { models: &["prices"], acts: true }, 0, now).is_some()
    }

    /// A decision that waits for approval, at the gate and in the ledger.
    fn propose(&self, id: u64, address: &str) -> DecisionId {
        let id = DecisionId(id);
        let order = order(address, None);
        let block = Block { id, acts_from: Time::NEVER, ..block(&order, NOW).unwrap() };
        let ground = Ground { detector: OPERATOR, blocks_per_minute: None, asked: None };
        let why = record(&block, &order, (&by(), &ground), Mode::Enforce);
        self.gate.impose(&block, &why, "rule", NOW);
        let evidence = records::line(&why).into();
        let observed = decided(&block, &order, Applied::Observed(Reason::Unproven), evidence);
        let proposed = Decided { status: Status::Proposed, ..observed };
        self.ledger.note(NOW, By::itself(), What::Decision(Box::new(proposed)));
        id
    }

    fn status(&self, id: DecisionId) -> Status {
        self.ledger.book().decision(id).unwrap().status
    }
}

#[test]
fn what_is_decided_by_hand_refuses_until_it_is_lifted() {
    let house = house();
    let changed = house.control.decide(&order("192.0.2.7", None), by(), NOW).unwrap();
    let (block, applied) = changed.now;
    assert_eq!((applied, block.acts), (Applied::Enforced, true));
    assert!(house.refuses("192.0.2.7", NOW) && !house.refuses("192.0.2.8", NOW));
    assert_eq!(house.status(block.id), Status::InForce);
    let line = Arc::clone(&house.ledger.book().decision(block.id).unwrap().evidence);
    assert!(
        line.contains("ci decided by hand to block client 192.0.2.7") && line.contains("a test"),
        "{line}"
    );
    let page = told::page(&line).unwrap();
    assert!(page.contains("decided by hand") && !page.contains("technique"), "nothing was measured: {page}");
    house.control.lift(block.id, by(), NOW).unwrap();
    assert!(!house.refuses("192.0.2.7", NOW));
    assert_eq!(house.status(block.id), Status::Lifted);
    assert_eq!(*house.ears.0.lock(), [block.id], "lanes hear of it");
    assert!(matches!(house.control.lift(block.id, by(), NOW), Err(Refused::NotInForce(_))), "twice");
}

#[test]
fn a_network_is_decided_on_as_far_as_the_operator_allows_it() {
    let house = house();
    let on =
        |text: &str| Order { client: crate::identity::written(text).unwrap(), ..order("192.0.2.7", None) };
    for (text, allowed) in
        [("192.0.2.0/24", true), ("192.0.0.0/23", false), ("2001:db8:1::/48", true), ("2001:db8::/47", false)]
    {
        match house.control.decide(&on(text), by(), NOW) {
            Ok(changed) => {
                assert!(allowed, "{text}");
                assert_eq!(changed.now.1, Applied::Enforced, "{text}");
            }
            Err(refused) => {
                assert!(!allowed && matches!(refused, Refused::TooWide(..)), "{text}: {refused}");
                let told = refused.to_string();
                assert!(told.contains(text) && told.contains("decisions.widest_prefix"), "{told}");
            }
        }
    }
    assert!(house.refuses("192.0.2.200", NOW) && !house.refuses("192.0.3.1", NOW));
}

#[test]
fn a_decision_that_names_a_model_holds_there_alone() {
    let house = house();
    let (block, _) = house.control.decide(&order("192.0.2.7", Some("prices")), by(), NOW).unwrap().now;
    let asker = Asker {
        address: Address::of("192.0.2.7".parse().unwrap()),
        standing: Standing::Declared,
        key: None,
        keys_verified: false,
    };
    let refuses = |gate: &Gate, model: &str| {
        gate.admit(&asker, crate::gate::Aim { models: &[model], acts: true }, NOW).is_some()
    };
    assert!(refuses(&house.gate, "prices") && !refuses(&house.gate, "digits"), "{block:?}");
    let decided = house.ledger.book().decision(block.id).unwrap().clone();
    assert_eq!((decided.scope, decided.only().as_deref()), (Scope::Model, Some("prices")));
    assert!(decided.evidence.contains("(model: prices alone)"), "{}", decided.evidence);
    assert!(decided.evidence.contains(r#""scope":"model""#), "{}", decided.evidence);
    house.gate.lift(block.id);
    house.gate.resume([decided].iter(), NOW);
    assert!(refuses(&house.gate, "prices") && !refuses(&house.gate, "digits"), "after a restart");
}

#[test]
fn what_may_not_act_is_an_observation_and_says_why() {
    let house = house();
    for (address, model, reason) in
        [("198.51.100.7", None, Reason::NeverBlock), ("192.0.2.7", Some("digits"), Reason::Mode)]
    {
        let (block, applied) = house.control.decide(&order(address, model), by(), NOW).unwrap().now;
        assert_eq!((applied, block.acts), (Applied::Observed(reason), false), "{address}");
        assert!(!house.refuses(address, NOW), "{address}");
        assert_eq!(house.status(block.id), Status::Observed);
        assert!(kept_back(applied).is_some());
    }
    house.control.switch(true, by(), NOW).1.unwrap();
    let (_, applied) = house.control.decide(&order("192.0.2.7", None), by(), NOW).unwrap().now;
    assert_eq!(applied, Applied::Observed(Reason::KillSwitch));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_no_trace() {
    let house = house();
    let good = order("192.0.2.7", None);
    let bad = [
        Order { action: Action::Alert, ..good.clone() },
        Order { lasts: Duration::ZERO, ..good.clone() },
        Order { lasts: Duration::from_secs(367 * 24 * 3600), ..good.clone() },
        Order { model: Some("nobody's".into()), ..good },
    ];
    for order in bad {
        assert!(house.control.decide(&order, by(), NOW).is_err(), "{order:?}");
    }
    assert_eq!((house.gate.list(NOW).len(), house.ledger.book().decisions(None).count()), (0, 0));
}

#[test]
fn a_proposed_decision_is_answered_once() {
    let house = house();
    let (first, second) = (house.propose(1, "192.0.2.1"), house.propose(2, "192.0.2.2"));
    assert!(!house.refuses("192.0.2.1", NOW), "it waits");
    let later = NOW.plus(HOUR / 2);
    let block = house.control.approve(first, by(), later).unwrap().now;
    assert_eq!(block.until, later.plus(HOUR), "its time begins with the approval");
    assert!(house.refuses("192.0.2.1", later));
    assert!(matches!(house.control.approve(first, by(), later), Err(Refused::NotProposed(..))));
    assert!(matches!(house.control.reject(first, by(), later), Err(Refused::NotProposed(..))));
    house.control.reject(second, by(), later).unwrap();
    assert_eq!((house.status(first), house.status(second)), (Status::InForce, Status::Rejected));
    assert!(house.control.approve(second, by(), later).is_err() && !house.refuses("192.0.2.2", later));
    assert!(house.control.approve(DecisionId(9), by(), later).is_err(), "nobody proposed it");
    let third = house.propose(3, "192.0.2.3");
    assert!(house.control.approve(third, by(), NOW.plus(HOUR)).is_err(), "nobody answered in time");
}

#[test]
fn an_end_is_moved_in_both_directions() {
    let house = house();
    let id = house.control.decide(&order("192.0.2.7", None), by(), NOW).unwrap().now.0.id;
    for (lasts, holds) in [(HOUR * 5, true), (Duration::from_secs(1), false)] {
        house.control.extend(id, lasts, by(), NOW).unwrap();
        assert_eq!(house.refuses("192.0.2.7", NOW.plus(HOUR * 4)), holds, "{lasts:?}");
        assert_eq!(house.ledger.book().decision(id).unwrap().until, NOW.plus(lasts));
    }
    assert!(house.control.extend(id, HOUR, by(), NOW.plus(HOUR)).is_err(), "it has ended");
    assert!(house.control.extend(id, Duration::ZERO, by(), NOW).is_err());
}

#[test]
fn whoever_is_spared_passes_at_once_and_is_blocked_no_more() {
    let house = house();
    let network: IpNet = "192.0.2.0/24".parse().unwrap();
    house.control.decide(&order("192.0.2.7", None), by(), NOW).unwrap();
    house.control.spare_network(network, by(), NOW).unwrap();
    assert!(!house.refuses("192.0.2.7", NOW), "a decision in force");
    let (_, applied) = house.control.decide(&order("192.0.2.8", None), by(), NOW).unwrap().now;
    assert_eq!(applied, Applied::Observed(Reason::NeverBlock), "a new one");
    house.control.unspare_network(network, by(), NOW).unwrap();
    assert!(house.refuses("192.0.2.7", NOW) && !house.refuses("192.0.2.8", NOW));
    assert!(matches!(house.control.unspare_network(network, by(), NOW), Err(Refused::NotListed(_))));
    let configured = "198.51.100.0/24".parse().unwrap();
    assert!(matches!(house.control.unspare_network(configured, by(), NOW), Err(Refused::Configured(_))));
}

#[test]
fn a_link_answers_once_and_the_ledger_names_it() {
    let house = house();
    let id = house.propose(1, "192.0.2.1");
    let path = |answer| house.control.link(id, answer, NOW.plus(HOUR), NOW).unwrap();
    let (approve, reject) = (path(Proposal::Approve), path(Proposal::Reject));
    let token = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let mut heard = house.ledger.listen();
    assert_eq!(house.control.look_at(&token(&approve), NOW).unwrap().id, id);
    assert_eq!(house.status(id), Status::Proposed, "looking changes nothing");
    house.control.follow(&token(&approve), None, NOW).unwrap();
    let entry = heard.try_recv().unwrap();
    assert_eq!((&*entry.by.who, house.status(id)), ("link", Status::InForce));
    assert!(matches!(house.control.follow(&token(&approve), None, NOW), Err(Refused::Link(LinkError::Used))));
    assert!(matches!(house.control.follow(&token(&reject), None, NOW), Err(Refused::NotProposed(..))));
    assert!(house.control.link(id, Proposal::Reject, NOW.plus(HOUR), NOW).is_err(), "it waits no more");
}

#[test]
fn every_change_is_noted_with_who_where_and_why() {
    let house = house();
    let mut heard = house.ledger.listen();
    let id = house.control.decide(&order("192.0.2.7", None), by(), NOW).unwrap().now.0.id;
    house.control.extend(id, HOUR, by(), NOW).unwrap();
    house.control.lift(id, by(), NOW).unwrap();
    house.control.spare_network("192.0.2.0/24".parse().unwrap(), by(), NOW).unwrap();
    house.control.unspare_network("192.0.2.0/24".parse().unwrap(), by(), NOW).unwrap();
    house.control.switch(true, by(), NOW).1.unwrap();
    house.control.promote("prices", by(), NOW).unwrap();
    assert!(house.control.promote("digits", by(), NOW).is_err());
    assert!(matches!(house.control.promote_candidate("digits", by(), NOW), Err(Refused::NoCandidate(_))));
    let mut noted = Vec::new();
    while let Ok(entry) = heard.try_recv() {
        assert_eq!(entry.by, by());
        noted.push(match entry.what {
            What::Decision(_) => "decision",
            What::Extended { .. } => "extended",
            What::Lifted { .. } => "lifted",
            What::NeverBlock { .. } => "never_block",
            What::KillSwitch { on: true } => "kill_switch",
            What::Reference { trusted: true, rows: 500, .. } => "reference",
            _ => "something else",
        });
    }
    assert_eq!(
        noted,
        ["decision", "extended", "lifted", "never_block", "never_block", "kill_switch", "reference"]
    );
}

#[test]
fn what_the_file_of_the_kill_switch_does_is_noted_once() {
    let house = house();
    let file = house.directory.path().join("kill-switch");
    for on in [true, false] {
        let mut heard = house.ledger.listen();
        crate::gate::kill_switch::write(&file, on).unwrap();
        house.gate.tick(NOW);
        (0..3).for_each(|_| house.control.follow_file(NOW));
        let entry = heard.try_recv().unwrap();
        assert_eq!((entry.what.clone(), entry.by.from.as_deref()), (What::KillSwitch { on }, Some("file")));
        assert!(heard.try_recv().is_err(), "it was noted more than once");
    }
    let mut heard = house.ledger.listen();
    house.control.switch(true, by(), NOW).1.unwrap();
    house.control.follow_file(NOW);
    assert_eq!((heard.try_recv().unwrap().by.clone(), heard.try_recv().is_err()), (by(), true));
}

#[test]
fn a_client_is_read_as_decisions_write_it() {
    for text in ["192.0.2.7", "2001:db8:1:2::/64", "key:00000000000000ab"] {
        assert_eq!(client(text).unwrap().to_string(), text);
    }
    assert_eq!(client("2001:db8:1:2:3::4").unwrap().to_string(), "2001:db8:1:2::/64");
    assert_eq!(client("192.0.2.0/24").unwrap().to_string(), "192.0.2.0/24");
    for bad in ["", "192.0.2.7/24", "192.0.2.7/64", "key:ab", "key:+0000000000000ab", "example.org"] {
        assert_eq!(client(bad), None, "{bad:?}");
    }
}
