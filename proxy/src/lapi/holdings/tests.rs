use checkgate_config::settings::{LapiUrl, Secret};
use checkgate_detectors::finding::Action;

use super::super::tests::{HOUR, House, clock, house};
use super::*;

fn source() -> LapiSource {
    LapiSource {
        name: "lan".into(),
        url: LapiUrl { host: "192.0.2.1".into(), port: 8080, base: String::new(), tls: false, ca: None },
        key: Secret::new("the key of this instance".into()),
        every: None,
        origins: Vec::new(),
        scenarios_containing: Vec::new(),
        scenarios_not_containing: Vec::new(),
        decisions_max: 100,
        blocks_per_minute: None,
    }
}

fn holdings(house: &House) -> Holdings {
    holdings_of(house, source())
}

fn holdings_of(house: &House, source: LapiSource) -> Holdings {
    Holdings::new(source, house.metrics.source("lan"))
}

fn ban<'a>(scope: &'a str, value: &'a str, duration: &'a str) -> Decision<'a> {
    Decision {
        id: 1,
        origin: "crowdsec".into(),
        kind: BAN.into(),
        scope: scope.into(),
        value: value.into(),
        duration: duration.into(),
        scenario: "crowdsecurity/http-probing".into(),
        simulated: None,
    }
}

fn on(address: &str) -> Decision<'_> {
    ban(IP, address, "4h0m0s")
}

fn new<'a>(decisions: impl IntoIterator<Item = Decision<'a>>) -> Delta<'a> {
    Delta { new: Some(decisions.into_iter().collect()), deleted: None }
}

fn deleted<'a>(decisions: impl IntoIterator<Item = Decision<'a>>) -> Delta<'a> {
    Delta { new: None, deleted: Some(decisions.into_iter().collect()) }
}

impl Holdings {
    fn all(&mut self, list: &Delta<'_>, house: &House) {
        self.take_all(list, &house.hands, clock());
    }

    fn next(&mut self, delta: &Delta<'_>, house: &House) {
        self.take(delta, &house.hands, clock());
    }

    fn not_taken(&self) -> Vec<(NotTaken, u64)> {
        use NotTaken::{Filtered, Full, Malformed, Range, Scope, Type};
        let count = |why| (why, self.metrics.not_taken.get(why));
        [Type, Scope, Range, Malformed, Filtered, Full]
            .map(count)
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect()
    }
}

#[test]
fn a_ban_holds_here_until_the_source_lifts_it_and_says_whose_it_is() {
    let house = house();
    let mut lan = holdings(&house);
    lan.all(&new([on("192.0.2.7")]), &house);
    let id = house.acting("192.0.2.7").unwrap();
    let decided = house.ledger.book().decision(id).unwrap().clone();
    assert_eq!((&*decided.detector, decided.action), ("crowdsec:lan", Action::Block));
    assert!(decided.evidence.contains("crowdsec:lan decided elsewhere to block client 192.0.2.7"));
    assert!(decided.evidence.contains("crowdsecurity/http-probing (crowdsec)"), "{}", decided.evidence);
    assert!(told::page(&decided.evidence).unwrap().contains("decided elsewhere"));
    lan.next(&deleted([on("192.0.2.7")]), &house);
    assert_eq!(house.acting("192.0.2.7"), None);
    assert_eq!(lan.metrics.standing.get(), 0);
    assert_eq!((lan.metrics.taken.get(Taken::Enforced), lan.metrics.taken.get(Taken::Lifted)), (1, 1));
}

#[test]
fn what_the_gate_cannot_hold_is_counted_with_the_reason() {
    let house = house();
    let mut lan = holdings(&house);
    let captcha = Decision { kind: "captcha".into(), ..on("192.0.2.1") };
    let simulated = Decision { simulated: Some(true), ..on("192.0.2.1") };
    let (country, long, short) =
        (ban("Country", "CN", "4h"), ban(RANGE, "192.0.2.0/24", "4h"), ban(RANGE, "2001:db8::/48", "4h"));
    let (nowhere, forever) = (ban(IP, "nowhere", "4h"), ban(IP, "192.0.2.1", "forever"));
    let over = ban(IP, "192.0.2.1", "-3m0s");
    lan.all(&new([captcha, simulated, country, long, short, nowhere, forever, over]), &house);
    use NotTaken::{Malformed, Range, Scope, Type};
    assert_eq!(lan.not_taken(), [(Type, 2), (Scope, 1), (Range, 2), (Malformed, 2)]);
    assert!(house.gate.list(clock()).is_empty());
    let fits = [
        ban("ip", "192.0.2.1", "4h"),
        ban(RANGE, "192.0.2.2/32", "4h"),
        ban(RANGE, "2001:db8:0:1::/64", "4h"),
        ban(IP, "2001:db8:0:2::77", "4h"),
    ];
    lan.all(&new(fits), &house);
    for client in ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::/64", "2001:db8:0:2::/64"] {
        assert!(house.acting(client).is_some(), "{client}");
    }
}

#[test]
fn a_network_is_taken_as_far_as_the_operator_allows_it() {
    let house = house();
    let mut lan = holdings(&house);
    let (narrow, wide) = (ban(RANGE, "192.0.2.16/28", "4h"), ban(RANGE, "192.0.2.0/27", "4h"));
    lan.next(&new([narrow.clone(), wide]), &house);
    assert_eq!(lan.not_taken(), [(NotTaken::Range, 1)], "the wide one");
    let standing: Vec<String> = house.gate.list(clock()).iter().map(|it| it.client.to_string()).collect();
    assert_eq!(standing, ["192.0.2.16/28"]);
    lan.all(&new([narrow.clone()]), &house);
    assert_eq!(house.gate.list(clock()).len(), 1, "the same again");
    lan.next(&deleted([narrow]), &house);
    assert!(house.gate.list(clock()).is_empty(), "let go with the ban");
}

#[test]
fn a_network_is_let_go_with_the_last_of_its_addresses() {
    let house = house();
    let mut lan = holdings(&house);
    lan.all(&new([on("2001:db8::1"), ban(IP, "2001:db8::2", "9h")]), &house);
    let id = house.acting("2001:db8::/64").unwrap();
    lan.next(&deleted([on("2001:db8::2")]), &house);
    assert_eq!(house.acting("2001:db8::/64"), Some(id), "another address is still banned");
    assert_eq!(house.gate.standing(id).unwrap().until, clock().plus(4 * HOUR), "until that one's end");
    lan.next(&deleted([on("2001:db8::3")]), &house);
    lan.next(&deleted([on("2001:db8::1")]), &house);
    assert_eq!(house.acting("2001:db8::/64"), None);
}

#[test]
fn after_a_restart_what_stands_agrees_with_the_list_again() {
    let house = house();
    let mut lan = holdings(&house);
    house.decides(50, "192.0.2.50", Action::Block);
    lan.all(&new([on("192.0.2.1"), on("192.0.2.2")]), &house);
    let kept = house.acting("192.0.2.1");
    house.passes(HOUR / 2);
    let mut restarted = holdings(&house);
    restarted.all(&new([ban(IP, "192.0.2.1", "3h30m0s"), on("192.0.2.3")]), &house);
    assert_eq!(house.acting("192.0.2.1"), kept, "it is not taken twice");
    assert_eq!(house.acting("192.0.2.2"), None, "it was lifted meanwhile");
    assert!(house.acting("192.0.2.3").is_some(), "it came meanwhile");
    assert!(house.acting("192.0.2.50").is_some(), "what others decided is not the source's to lift");
    let metrics = &restarted.metrics.taken;
    assert_eq!(metrics.get(Taken::Extended), 0, "the end is the same");
}

#[test]
fn another_end_moves_a_decision_and_never_beyond_what_the_operator_allows() {
    let house = house();
    let mut lan = holdings(&house);
    lan.all(&new([on("192.0.2.1")]), &house);
    let id = house.acting("192.0.2.1").unwrap();
    lan.next(&new([ban(IP, "192.0.2.1", "8h")]), &house);
    assert_eq!(house.gate.standing(id).unwrap().until, clock().plus(8 * HOUR));
    let latest = clock().plus(house.hands.at_most);
    for _ in 0..3 {
        lan.next(&new([ban(IP, "192.0.2.1", "87600h")]), &house);
        house.passes(HOUR);
        assert_eq!(house.gate.standing(id).unwrap().until, latest);
    }
    let mut restarted = holdings(&house);
    restarted.all(&new([ban(IP, "192.0.2.1", "87597h")]), &house);
    assert_eq!(house.gate.standing(id).unwrap().until, latest, "nor does a restart move it");
}

#[test]
fn the_never_block_list_the_brake_and_the_bound_on_clients_win() {
    let house = house();
    let mut lan =
        holdings_of(&house, LapiSource { blocks_per_minute: Some(3), decisions_max: 6, ..source() });
    let many: Vec<String> = (1..=8).map(|index| format!("192.0.2.{index}")).collect();
    let spared = on("198.51.100.7");
    lan.all(&new(std::iter::once(spared).chain(many.iter().map(|address| on(address)))), &house);
    assert_eq!(house.acting("198.51.100.7"), None, "it is on the never-block list");
    let acting = many.iter().filter(|address| house.acting(address).is_some()).count();
    assert_eq!((acting, lan.metrics.taken.get(Taken::Observed)), (3, 3), "two and one the brake held back");
    assert_eq!(lan.not_taken(), [(NotTaken::Full, 3)]);
    let by_hand = house.gate.brake_is_engaged(clock());
    assert!(by_hand && house.decides(60, "192.0.2.60", Action::Block) == Applied::Enforced, "others go on");
}

#[test]
fn what_somebody_lifts_here_stays_lifted_while_the_source_tells_of_the_same_ban() {
    let house = house();
    let mut lan = holdings(&house);
    lan.all(&new([on("192.0.2.1")]), &house);
    house.lifts(house.acting("192.0.2.1").unwrap().0);
    for _ in 0..2 {
        lan.next(&new([on("192.0.2.1")]), &house);
        lan.all(&new([on("192.0.2.1")]), &house);
        assert_eq!(house.acting("192.0.2.1"), None);
    }
    assert_eq!(lan.metrics.taken.get(Taken::LiftedHere), 1);
    lan.next(&new([ban(IP, "192.0.2.1", "9h")]), &house);
    assert!(house.acting("192.0.2.1").is_some(), "it is another ban");
    lan.next(&deleted([on("192.0.2.1")]), &house);
    lan.next(&new([ban(IP, "192.0.2.1", "9h")]), &house);
    assert!(house.acting("192.0.2.1").is_some(), "the source lifted it and bans again");
}

#[test]
fn filters_hold_whatever_the_source_makes_of_them() {
    let house = house();
    let mut lan = holdings_of(
        &house,
        LapiSource {
            origins: vec!["crowdsec".into()],
            scenarios_containing: vec!["HTTP".into()],
            scenarios_not_containing: vec!["ssh".into()],
            ..source()
        },
    );
    let list = Decision { origin: "lists".into(), ..on("192.0.2.1") };
    let other = Decision { scenario: "crowdsecurity/ftp".into(), ..on("192.0.2.2") };
    let not = Decision { scenario: "http-and-ssh".into(), ..on("192.0.2.3") };
    lan.all(&new([list, other, not, on("192.0.2.4")]), &house);
    assert_eq!(lan.not_taken(), [(NotTaken::Filtered, 3)]);
    assert!(house.acting("192.0.2.4").is_some() && house.gate.list(clock()).len() == 1);
}

#[test]
fn a_source_that_is_gone_from_the_configuration_leaves_nothing_behind() {
    let house = house();
    let mut lan = holdings(&house);
    lan.all(&new([on("192.0.2.1")]), &house);
    house.decides(50, "192.0.2.50", Action::Block);
    lift_orphans(|name| name == "lan", &house.hands, clock());
    assert!(house.acting("192.0.2.1").is_some(), "it is still there");
    lift_orphans(|_| false, &house.hands, clock());
    assert!(house.acting("192.0.2.1").is_none() && house.acting("192.0.2.50").is_some());
}

#[test]
fn words_of_a_source_steer_no_terminal_and_have_a_bound() {
    let house = house();
    let mut lan = holdings(&house);
    let long = format!("\u{1b}[2J{}", "x".repeat(10_000));
    lan.all(&new([Decision { scenario: long.into(), ..on("192.0.2.1") }]), &house);
    let id = house.acting("192.0.2.1").unwrap();
    let evidence = house.ledger.book().decision(id).unwrap().evidence.clone();
    assert!(evidence.len() < 2000 && !evidence.contains("\\u001b"), "{evidence}");
}

#[test]
fn what_a_real_crowdsec_told_is_read() {
    let house = house();
    let mut lan = holdings(&house);
    let captured = include_str!("../../../fixtures/lapi/crowdsec-1.4.6.json");
    lan.all(&serde_json::from_str(captured).unwrap(), &house);
    assert!(house.acting("192.0.2.77").is_some() && house.acting("2001:db8::/64").is_some());
    assert_eq!(lan.not_taken(), [(NotTaken::Range, 1)], "a network of IPv4");
    assert_eq!(house.gate.list(clock()).len(), 2, "what is deleted in a full list stood nowhere");
}

#[test]
fn of_two_decisions_on_one_client_one_is_kept_and_both_end_with_the_ban() {
    let house = house();
    let (mut early, mut late) = (holdings(&house), holdings(&house));
    early.next(&new([on("192.0.2.1")]), &house);
    // As if the ledger had opened only after this one had begun.
    late.next(&new([on("192.0.2.1")]), &house);
    assert_eq!(house.gate.list(clock()).len(), 2);
    late.all(&new([on("192.0.2.1")]), &house);
    assert_eq!(house.gate.list(clock()).len(), 1);
    late.next(&deleted([on("192.0.2.1")]), &house);
    assert_eq!(house.acting("192.0.2.1"), None);
}
