//! One search split over many clients is told as a campaign; honest clients beside each other never are.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod support;

use checkgate_detectors::campaign;
use checkgate_detectors::finding::Action;
use support::{Request, Stream, client, engine, play, reference, streams};

/// What became of an attack whose requests `clients` identities sent in turn.
struct Split {
    told_at: Option<usize>,
    clients_named: usize,
    refused_after: usize,
    rows_after: usize,
}

fn split(attack: &Stream, honest: &[Stream], clients: u16) -> Split {
    let mut engine = engine(Some(reference(&attack.name)), &[]);
    let mut honest = (0..).flat_map(|turn| {
        let requests = honest.iter().enumerate();
        requests.filter_map(move |(number, stream)| Some((number, stream.requests.get(turn)?)))
    });
    let mut split = Split { told_at: None, clients_named: 0, refused_after: 0, rows_after: 0 };
    for (turn, request) in attack.requests.iter().take(600).enumerate() {
        for _ in 0..3 {
            let Some((number, beside)) = honest.next() else { break };
            let out = play(&mut engine, client(5000 + number as u16), turn as u64 * 10, beside);
            assert!(out.blocks.is_empty(), "an honest client beside {}: {:?}", attack.name, out.records);
        }
        let out = play(&mut engine, client(turn as u16 % clients), turn as u64 * 10 + 9, request);
        let told = out.records.iter().find(|record| record.detector == campaign::NAME);
        if split.told_at.is_some() {
            split.rows_after += 1;
            split.refused_after += usize::from(out.refused_by.is_some());
        }
        if let Some(record) = told {
            assert_eq!(record.action, Action::Refuse, "{}", record.explanation);
            split.told_at.get_or_insert(turn + 1);
            split.clients_named = record.campaign.as_ref().unwrap().clients_total;
        }
    }
    split
}

#[test]
fn a_search_split_over_many_clients_is_told_and_its_next_questions_are_refused() {
    let attacks = streams("attacks");
    for (name, told_by) in [("hsj_digits", 40), ("simba_digits", 40), ("price_enum", 60), ("nes_cancer", 200)]
    {
        let attack = attacks.iter().find(|stream| stream.name == name).unwrap();
        let model = support::model_of(name);
        let honest: Vec<_> =
            streams("benign").into_iter().filter(|stream| support::model_of(&stream.name) == model).collect();
        for clients in [10, 100, 600] {
            let Split { told_at, clients_named, refused_after, rows_after } = split(attack, &honest, clients);
            println!(
                "{name:14} over {clients:3}: told at row {told_at:?}, {clients_named} clients, {refused_after} of \
                 {rows_after} refused"
            );
            assert!(told_at.is_some_and(|row| row <= told_by), "{name} over {clients}: {told_at:?}");
            assert!(clients_named >= campaign::CLIENTS_MIN);
            assert!(refused_after > 0, "{name} over {clients}: none of {rows_after}");
        }
    }
}

#[test]
fn honest_clients_beside_each_other_are_no_campaign() {
    for model in ["pricing", "digits", "cancer"] {
        let honest: Vec<_> =
            streams("benign").into_iter().filter(|stream| support::model_of(&stream.name) == model).collect();
        let mut engine = engine(Some(reference(model)), &[]);
        let longest = honest.iter().map(|stream| stream.requests.len()).max().unwrap();
        let mut id = 0;
        for turn in 0..longest {
            for (number, stream) in honest.iter().enumerate() {
                let Some(request) = stream.requests.get(turn) else { continue };
                let out = play(&mut engine, client(number as u16), id, &Request { ..request.clone() });
                id += 1;
                let told = out.records.iter().find(|record| record.detector == campaign::NAME);
                assert!(told.is_none(), "{model}, {}: {told:?}", stream.name);
                assert_eq!(out.refused_by, None);
            }
        }
    }
}
