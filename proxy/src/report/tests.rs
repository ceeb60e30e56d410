//! What a report tells of decisions.

use std::time::Duration;

use checkgate_detectors::finding::{Action, DecisionId};

use super::*;
use crate::ledger::book::Bounds;
use crate::ledger::entry::{By, Entry, What};
use crate::rehearse::form::tests::markup;
use crate::told::clean::steers;
use crate::told::clean::tests::read_back;

const DAY: u64 = 86_400_000_000;

fn decided(id: u64, client: u64, detector: &str, status: Status, held_back: Option<Reason>) -> Decided {
    let (time, lasts) = (Time(10 * DAY + id), Duration::from_secs(900));
    Decided {
        id: DecisionId(id),
        client: Identity::Key(client),
        model: Some("prices".into()),
        scope: checkgate_detectors::finding::Scope::Everywhere,
        detector: detector.into(),
        action: Action::Block,
        time,
        until: time.plus(lasts),
        lasts,
        status,
        held_back,
        approves_itself: None,
        tenant: (client < 3).then(|| "acme".into()),
        requests: 10 * id,
        asked: None,
        evidence: "{}".into(),
    }
}

fn book() -> Book {
    let decisions = [
        decided(1, 1, "one_field_sweep", Status::Observed, Some(Reason::Mode)),
        decided(2, 1, "one_field_sweep", Status::Observed, Some(Reason::Mode)),
        decided(3, 2, "near_duplicates", Status::Observed, Some(Reason::NeverBlock)),
        decided(4, 3, "near_duplicates", Status::InForce, None),
        decided(5, 4, "one_field_sweep", Status::Lifted, None),
        decided(6, 5, "one_field_sweep", Status::Proposed, None),
    ];
    let mut book = Book::new(Bounds::default());
    for (index, decided) in decisions.into_iter().enumerate() {
        let (number, time, by) = (index as u64 + 1, decided.time, By::itself());
        book.take(&Entry { number, time, by, what: What::Decision(Box::new(decided)) });
    }
    book
}

#[test]
fn decisions_are_counted_by_what_became_of_them_and_clients_once() {
    let report = Report::of(&book(), &BTreeMap::new(), Time(9 * DAY), Time(11 * DAY));
    assert_eq!(report.all, Tally { decisions: 6, clients: 5, requests: 210 });
    let of = |outcome| {
        let Tally { decisions, clients, requests } = report.outcome(outcome);
        (decisions, clients, requests)
    };
    assert_eq!(of(Outcome::WouldHaveActed), (2, 1, 30), "two decisions on one client");
    assert_eq!(of(Outcome::HeldBack), (1, 1, 30));
    assert_eq!(of(Outcome::Acted), (1, 1, 40));
    assert_eq!((of(Outcome::Undone).0, of(Outcome::Proposed).0), (1, 1));
    assert_eq!(report.held_back.keys().collect::<Vec<_>>(), ["mode", "never_block"]);
    assert_eq!(report.detectors["near_duplicates"].all.decisions, 2);
    assert_eq!(report.tenants["acme"].all, Tally { decisions: 3, clients: 2, requests: 60 });
    assert!(report.clients.iter().any(|client| client.never_block && client.requests == 30));
    assert!(report.clients.is_sorted_by(|one, other| one.requests >= other.requests));
}

#[test]
fn only_the_span_that_was_asked_for_counts() {
    assert_eq!(Report::of(&book(), &BTreeMap::new(), Time(0), Time(DAY)).all.decisions, 0);
    let empty = Report::of(&Book::new(Bounds::default()), &BTreeMap::new(), Time(0), Time(DAY));
    assert!(empty.summary().join(" ").starts_with("Nothing was decided;"), "{:?}", empty.summary());
}

#[test]
fn every_form_tells_the_same_and_shows_nothing_from_traffic_as_markup() {
    let mut report = Report::of(&book(), &BTreeMap::new(), Time(9 * DAY), Time(11 * DAY));
    report.clients[0].model = "<script>alert(1)</script>\u{1b}[2J".into();
    let (text, page) = (text(&report), html(&report));
    for sentence in report.summary() {
        assert!(text.contains(&sentence) && page.contains(&sentence), "{sentence} is missing");
    }
    assert!(!page.contains("<script>") && !text.contains('\u{1b}'), "traffic reached a form as it came");
    assert!(!page.contains("://"), "the page must hold all that it needs");
    let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}

#[test]
fn every_naughty_string_comes_back_from_page_and_text() {
    let report = |text: &str| {
        let client = Client {
            client: format!("key:{text}"),
            tenant: Some(text.into()),
            decisions: 1,
            requests: 3,
            outcome: Outcome::Acted,
            action: "block".into(),
            detector: "one_field_sweep".into(),
            model: text.into(),
            decision: "d-0000000000000007".into(),
            never_block: false,
        };
        let all = Tally { decisions: 1, clients: 1, requests: 3 };
        Report {
            since: 1_700_000_000.0,
            until: 1_700_086_400.0,
            findings: 1,
            outcomes: [(Outcome::Acted, all.clone())].into(),
            held_back: BTreeMap::new(),
            detectors: BTreeMap::new(),
            models: [(text.to_owned(), ByOutcome { all: all.clone(), outcomes: BTreeMap::new() })].into(),
            tenants: BTreeMap::new(),
            clients: vec![client],
            clients_left_out: 0,
            farthest: crate::farthest::tests::of(text, text),
            all,
        }
    };
    let plain = html::write(&report("prices"));
    let elements = markup(&plain).0;
    for naughty in naughty_strings::BLNS {
        let (page, shown) = (html::write(&report(naughty)), text::write(&report(naughty)));
        assert!(!format!("{page}{shown}").contains(|c| steers(c) && c != '\n'), "{naughty:?}");
        let (names, texts) = markup(&page);
        assert_eq!(names, elements, "{naughty:?} is markup");
        assert!(texts.contains(&format!("key:{naughty}")) && texts.iter().any(|text| text == naughty));
        let line = format!("key:{naughty} of {naughty}: block, by one_field_sweep on {naughty}, d-");
        assert!(shown.split('\n').any(|shown| read_back(shown).contains(&line)), "{line:?}: {shown}");
    }
}
