//! What settings come out of what was typed, in files and in flags.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly, as tests do"
)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use checkgate_config::raw::{RawClients, RawIdentity, RawModel};
use checkgate_config::settings::{
    ClientIdentity, Findings, Hold, Listen, Mode, OnTierOne, OnTierTwo, OnViolation, Policy, Rules, Server,
    ServerAddress, Settings, Upstream,
};
use checkgate_config::{Document, Problem, Raw, from_raw, problem, read};
use serde_json::json;
use support::PARTS;

const UPSTREAM: &str = "http://127.0.0.1:8080";

fn accepted(text: &str) -> Settings {
    read(text, "/etc/checkgate/checkgate.yaml", &PARTS)
        .map_err(|problems| problem::render(&problems))
        .unwrap()
}

/// The address of the only server of `upstream`.
fn only_server(upstream: &Upstream) -> (&str, u16) {
    match upstream.servers.as_slice() {
        [Server { address: ServerAddress::Tcp { host, port }, tls: false, weight: 1 }] => (host, *port),
        other => panic!("one plain server was expected, found {other:?}"),
    }
}

fn flags() -> Raw {
    Raw { upstream: Some(UPSTREAM.into()), ..Raw::default() }
}

fn said(problems: &[Problem]) -> String {
    problem::render(problems)
}

#[test]
fn flags_alone_are_enough() {
    let settings = from_raw(&flags(), &PARTS).unwrap();
    let unclaimed = settings.unclaimed.expect("an upstream takes unclaimed traffic");
    assert_eq!(only_server(&unclaimed.upstream), ("127.0.0.1", 8080));
    assert_eq!((unclaimed.mode, unclaimed.hold), (Mode::Observe, Hold::None), "the default never acts");
    assert_eq!(unclaimed.block_for, [900, 7200, 86_400].map(Duration::from_secs));
    assert_eq!(unclaimed.detectors.len(), PARTS.detectors.len(), "all detectors run");
    assert_eq!(settings.clients.identity, ClientIdentity::Assumed);
    assert_eq!(settings.findings, Findings::Stdout);
    assert_eq!(settings.state, PathBuf::from("checkgate-state"));
    assert_eq!(settings.listen, [Listen::Tcp("127.0.0.1:8765".parse().unwrap())]);
    assert!(settings.admin.listen.ip().is_loopback());
}

#[test]
fn a_wrong_flag_names_its_setting() {
    let raw = Raw { listen: Some("nowhere".into()), ..flags() };
    let problems = from_raw(&raw, &PARTS).unwrap_err();
    assert!(
        said(&problems).starts_with("command line: listen: \"nowhere\" is no IP address"),
        "{}",
        said(&problems)
    );
}

#[test]
fn flags_win_over_the_file_and_are_blamed_for_their_own_mistakes() {
    let text = "upstream: http://127.0.0.1:8080\nmode: observe\nclients: {never_block: [192.0.2.1], identity: ip}\nstate: kept\n";
    let mut document = Document::parse(text, "/etc/checkgate/checkgate.yaml").unwrap();
    let clients = RawClients {
        never_block: Some(vec!["192.0.2.2".into()]),
        identity: Some(RawIdentity::Word("header:X-Key".into())),
        ..RawClients::default()
    };
    let over = Raw {
        mode: Some(Mode::Enforce),
        findings: Some("out.jsonl".into()),
        clients: Some(clients),
        ..Raw::default()
    };
    document.lay_over(&over).unwrap();
    let settings = document.check(&PARTS).unwrap();
    assert_eq!(settings.unclaimed.unwrap().mode, Mode::Enforce);
    assert_eq!(settings.clients.never_block.len(), 2, "a flag that may be repeated adds to the file's list");
    let header = ClientIdentity::Header { name: "x-key".into(), verified_by_upstream: false };
    assert_eq!(settings.clients.identity, header);
    assert_eq!(
        settings.state,
        PathBuf::from("/etc/checkgate/kept"),
        "the file's paths count from its folder"
    );
    assert_eq!(
        settings.findings,
        Findings::File("out.jsonl".into()),
        "a flag's path counts from where one stands"
    );

    document.lay_over(&Raw { upstream: Some("https://x".into()), ..Raw::default() }).unwrap();
    let problems = document.check(&PARTS).unwrap_err();
    assert!(
        said(&problems).starts_with("command line: upstream: an upstream needs a host and a port"),
        "{}",
        said(&problems)
    );
}

#[test]
fn a_flag_for_a_model_changes_the_model_of_that_name() {
    let text = "upstream: http://127.0.0.1:8080\nmodels: [{name: pricing, path: /p}]\n";
    let folder = tempfile::tempdir().unwrap();
    let reference = folder.path().join("rows.jsonl");
    std::fs::write(&reference, "[1, 2]\n").unwrap();
    let mut document = Document::parse(text, "checkgate.yaml").unwrap();
    let model = |name: &str| RawModel {
        name: Some(name.into()),
        reference: Some(reference.clone()),
        ..RawModel::default()
    };
    document
        .lay_over(&Raw { models: Some(vec![model("pricing"), model("churn")]), ..Raw::default() })
        .unwrap();
    let settings = document.check(&PARTS).unwrap();
    let names: Vec<&str> = settings.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["pricing", "churn"]);
    assert_eq!(settings.models[0].path.as_deref(), Some("/p"), "what the file says of the model stays");
    assert!(settings.models.iter().all(|model| model.reference.as_ref() == Some(&reference)));
    assert_eq!(
        only_server(&settings.models[1].upstream).1,
        8080,
        "the top-level upstream serves a model without its own"
    );
}

#[test]
fn a_models_policy_replaces_the_top_levels_key_by_key() {
    let settings = accepted(
        "policy: {on_tier_one: degrade, digits: 3}\n\
         models:\n\
         - {name: a, upstream: 'http://m:1'}\n\
         - {name: b, upstream: 'http://m:1', policy: {on_tier_one: throttle, on_tier_two: throttle, delay: 0s}}\n",
    );
    let [a, b] = settings.models.as_slice() else { panic!("two models") };
    let defaults = Policy {
        on_tier_one: OnTierOne::Degrade,
        on_tier_two: OnTierTwo::Alert,
        rules: Rules { place: "policy.rules".into(), list: Vec::new() },
        tiers: BTreeMap::new(),
        digits: 3,
        delay: Duration::from_millis(500),
        delay_max: Duration::from_secs(30),
        step_rows: 5,
        requests_per_minute: 60,
    };
    assert_eq!(a.policy, defaults);
    let own = Policy {
        on_tier_one: OnTierOne::Throttle,
        on_tier_two: OnTierTwo::Throttle,
        rules: Rules { place: "policy.rules".into(), list: Vec::new() },
        tiers: BTreeMap::new(),
        delay: Duration::ZERO,
        ..defaults
    };
    assert_eq!(b.policy, own);
}

#[test]
fn a_model_takes_what_it_does_not_say_from_the_top_level() {
    let settings = accepted(
        "mode: enforce\nhold: answer\nblock_for: 1h\nprotocol: mlflow\n\
         contract: {rules: [{minimum: 0}], on_violation: clamp}\n\
         detectors: {client_volume: off, one_field_sweep: {values: 20}}\n\
         models:\n\
         - {name: a, upstream: 'http://m:1'}\n\
         - {name: b, upstream: 'http://m:1', mode: observe, contract: {block_after: 3, on_violation: refuse},\n\
         \x20\x20\x20 detectors: {client_volume: on, field_by_field: off, one_field_sweep: on}}\n",
    );
    let [a, b] = settings.models.as_slice() else { panic!("two models") };
    assert_eq!((a.mode, a.hold), (Mode::Enforce, Hold::Answer));
    assert_eq!(a.block_for, [Duration::from_secs(3600)], "one time for every offence");
    assert_eq!(a.protocol.as_ref().unwrap().name, "mlflow");
    assert_eq!(a.contract.on_violation, OnViolation::Clamp);
    let names = |model: &checkgate_config::settings::Model| -> Vec<String> {
        model.detectors.iter().map(|chosen| chosen.name.clone()).collect()
    };
    assert_eq!(names(a), ["one_field_sweep", "field_by_field"]);
    assert_eq!(a.detectors[0].parameters, json!({"values": 20, "free_fields": []}), "defaults are filled in");
    assert_eq!(b.mode, Mode::Observe);
    assert_eq!(names(b), ["one_field_sweep", "client_volume"]);
    assert_eq!(b.detectors[0].parameters["values"], 20, "`on` keeps the top level's parameters");
    assert_eq!(b.contract.on_violation, OnViolation::Refuse);
    assert_eq!(b.contract.parameters["block_after"], 3);
    assert_eq!(
        b.contract.parameters["rules"],
        json!([{"minimum": 0}]),
        "keys left out come from the top level"
    );
}

#[test]
fn one_mistake_of_all_models_is_told_once_and_at_its_own_place() {
    let text = "contract: {rules: [{minimum: 1, maximum: 0}]}\ndetectors: {one_field_sweep: {values: 2}}\n\
                models: [{name: a, upstream: 'http://m:1'}, {name: b, upstream: 'http://m:1'}]\n";
    let problems = read(text, "checkgate.yaml", &PARTS).unwrap_err();
    let places: Vec<_> =
        problems.iter().filter_map(|one| one.place).map(|place| (place.line, place.column)).collect();
    assert_eq!(places, [(1, 42), (2, 39)], "{}", said(&problems));
}

#[test]
fn a_token_comes_from_the_environment_or_from_a_file_and_is_never_shown() {
    let secret = "0123456789abcdef-very-secret";
    let environment = |name: &str| (name == "GATE").then(|| secret.to_owned());
    let text = "upstream: http://127.0.0.1:8080\nadmin: {listen: '0.0.0.0:1', token: '${GATE}'}\n";
    let document = Document::parse(text, "checkgate.yaml").unwrap();
    let settings = document.check_in(&PARTS, &environment).unwrap();
    assert_eq!(settings.admin.token.as_ref().unwrap().reveal(), secret);
    assert!(!format!("{settings:?}").contains(secret), "no debug output shows a secret");

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), format!("{secret}\n")).unwrap();
    let text = "upstream: http://127.0.0.1:8080\nadmin: {token_file: token}\n";
    let origin = folder.path().join("checkgate.yaml").display().to_string();
    assert_eq!(read(text, &origin, &PARTS).unwrap().admin.token.unwrap().reveal(), secret);
}

#[test]
fn no_message_shows_a_token() {
    for text in [
        "upstream: x\nadmin: {token: hunter2-hunter2, listen: nowhere, zebra: 1}\n",
        "upstream: x\nadmin:\n  token: hunter2 hunter2\n  listen: [\n",
        "upstream: x\nadmin:\n  token: [hunter2]\n",
        "upstream: x\nadmin:\n  token: |\n    hunter2\n    hunter2 hunter2\n  listen: nowhere\n",
        "upstream: x\nadmin: {token: 'hunter2', token: 'hunter2'}\n",
        "upstream: x\nadmin: {tokne: hunter2}\nAdmin_token: hunter2\n",
        "upstream: x\nadmin: &a {token: hunter2}\n",
    ] {
        let problems = read(text, "checkgate.yaml", &PARTS).unwrap_err();
        assert!(!format!("{} {problems:?}", said(&problems)).contains("hunter2"), "{}", said(&problems));
    }
    let raw = Document::parse("admin: {token: hunter2}\n", "checkgate.yaml").unwrap().raw().unwrap();
    assert!(!format!("{raw:?}").contains("hunter2"), "what was typed is masked, too");
}

#[test]
fn networks_are_read_with_and_without_a_prefix() {
    let settings = accepted(
        "upstream: http://[::1]:80\nclients: {trusted_proxies: [10.1.2.3/8, 192.0.2.7, '2001:db8::/32', '::1']}\n",
    );
    let shown: Vec<String> = settings.clients.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "::1/128"]);
    assert_eq!(only_server(&settings.unclaimed.unwrap().upstream), ("::1", 80));
}

#[test]
fn a_file_that_is_no_text_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkgate.yaml");
    std::fs::write(&file, b"upstream: http://m:1\nmode: \xff\n").unwrap();
    let problems = Document::open(&file).err().unwrap();
    assert!(said(&problems).contains("checkgate.yaml: line 2 is not UTF-8"), "{}", said(&problems));
    let problems = Document::open(&folder.path().join("absent.yaml")).err().unwrap();
    assert!(said(&problems).contains("there is no file"), "{}", said(&problems));
    std::fs::write(&file, "upstream: http://m:1\n").unwrap();
    assert!(Document::open(&file).unwrap().check(&PARTS).is_ok());
}

#[test]
fn another_host_may_use_the_same_port() {
    accepted("upstream: http://10.0.0.5:8080\nlisten: 0.0.0.0:8080\n");
    let loops = "upstream: http://127.0.0.1:8080\nlisten: 0.0.0.0:8080\n";
    let problems = read(loops, "checkgate.yaml", &PARTS).unwrap_err();
    assert!(said(&problems).contains("checkgate itself listens"), "{}", said(&problems));
}

#[test]
fn free_ports_may_stand_twice() {
    accepted("upstream: http://m:1\nlisten: 127.0.0.1:0\nadmin: {listen: '127.0.0.1:0'}\n");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_read() {
    let settings = accepted("\u{feff}upstream: http://m:1\r\nmode: enforce\r\n");
    assert_eq!(settings.unclaimed.unwrap().mode, Mode::Enforce);
}

#[test]
fn a_fallback_is_read_when_the_settings_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("answer.json"), "{\"price\": 10}").unwrap();
    let origin = folder.path().join("checkgate.yaml").display().to_string();
    let text = "upstream: http://m:1\ncontract: {on_violation: {fallback: answer.json}}\n";
    let settings = read(text, &origin, &PARTS).unwrap();
    assert_eq!(
        settings.unclaimed.unwrap().contract.on_violation,
        OnViolation::Fallback(json!({"price": 10}))
    );
}
