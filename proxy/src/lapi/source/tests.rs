use checkgate_config::settings::{LapiUrl, Secret};

use super::super::tests::{House, clock, house};
use super::*;

fn puller(house: &House, every: Option<Duration>) -> Puller {
    let source = LapiSource {
        name: "lan".into(),
        url: LapiUrl { host: "192.0.2.1".into(), port: 8080, base: String::new(), tls: false, ca: None },
        key: Secret::new("the key of this instance".into()),
        every,
        origins: Vec::new(),
        scenarios_containing: Vec::new(),
        scenarios_not_containing: Vec::new(),
        decisions_max: 100,
        blocks_per_minute: None,
    };
    Puller::new(source, house.metrics.source("lan"))
}

fn answered(json: &str, by_checkgate: bool) -> Result<Pulled, PullError> {
    Ok(Pulled { json: json.into(), by_checkgate })
}

/// Whether a wait is `expected`, give or take its jitter.
fn is_about(wait: Duration, expected: Duration) -> bool {
    (wait.as_secs_f64() / expected.as_secs_f64() - 1.0).abs() <= JITTER + 1e-9
}

const NOTHING: &str = r#"{"new":null,"deleted":null}"#;
const ONE: &str = r#"{"new":[{"id":1,"origin":"cscli","type":"ban","scope":"Ip","value":"192.0.2.7","duration":"4h","scenario":"manual"}],"deleted":null}"#;

#[test]
fn a_checkgate_is_asked_twice_a_second_and_others_every_ten_unless_the_operator_says_otherwise() {
    let house = house();
    let mut puller_ = puller(&house, None);
    assert!(puller_.take(answered(NOTHING, false), true, &house.hands, clock()));
    assert!(is_about(puller_.wait(), EVERY));
    assert!(puller_.take(answered(NOTHING, true), false, &house.hands, clock()));
    assert!(is_about(puller_.wait(), EVERY_PEER));
    let told = puller(&house, Some(Duration::from_secs(120)));
    assert!(is_about(told.wait(), Duration::from_secs(120)));
}

#[test]
fn a_source_that_is_away_changes_nothing_is_counted_and_asked_ever_less_often() {
    let house = house();
    let mut puller = puller(&house, None);
    puller.take(answered(ONE, true), true, &house.hands, clock());
    puller.all_at = Some(Instant::now());
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        let away = Err(PullError::NoAnswer("nobody".into()));
        assert!(!puller.take(away, false, &house.hands, clock()));
        assert!(is_about(puller.wait(), Duration::from_secs(expected)), "{expected} s: {:?}", puller.wait());
    }
    assert!(house.acting("192.0.2.7").is_some(), "what it told stands");
    assert!(puller.is_all_due(Instant::now()), "what it told meanwhile is not known");
    assert_eq!((puller.metrics.up.get(), puller.metrics.pulls.get(labels::Pulled::Failed)), (0, 8));
    assert!(puller.take(answered(NOTHING, true), true, &house.hands, clock()));
    assert!(house.acting("192.0.2.7").is_none(), "it was lifted while nobody answered");
    assert!(is_about(puller.wait(), EVERY_PEER) && puller.metrics.up.get() == 1);
    puller.take(Err(PullError::Refused), false, &house.hands, clock());
    let metrics = puller.metrics.clone();
    drop(puller);
    assert_eq!(metrics.up.get(), 1, "a source that is taken out of the configuration is not away");
}

#[test]
fn what_is_no_list_changes_nothing_either() {
    let house = house();
    let mut puller = puller(&house, None);
    puller.take(answered(ONE, false), true, &house.hands, clock());
    for json in
        ["", "<html>", "[]", "{}", r#"{"message":"try later"}"#, r#"{"new":{}}"#, r#"{"new":[{"value":7}]}"#]
    {
        assert!(!puller.take(answered(json, false), true, &house.hands, clock()), "{json}");
        assert!(house.acting("192.0.2.7").is_some(), "{json}");
    }
    let refused = Err(PullError::Refused);
    assert!(!puller.take(refused, false, &house.hands, clock()));
    assert_eq!(puller.metrics.pulls.get(labels::Pulled::Refused), 1);
}

#[tokio::test(start_paused = true)]
async fn the_whole_list_is_asked_for_at_first_and_every_hour() {
    let house = house();
    let mut puller = puller(&house, None);
    assert!(puller.is_all_due(Instant::now()));
    puller.all_at = Some(Instant::now());
    tokio::time::advance(ALL_EVERY - Duration::from_secs(1)).await;
    assert!(!puller.is_all_due(Instant::now()));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(puller.is_all_due(Instant::now()));
}
