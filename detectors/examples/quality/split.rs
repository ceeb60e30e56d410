//! (c) One attack whose requests several clients send in turn.

use checkgate_detectors::campaign;

use super::diluted::{Traffic, attacks};
use super::honest::people;
use super::host::{Host, Setting, TRUSTED};
use super::table::{Table, or_dash};
use crate::support::{Stream, model_of};

/// Clients that an attack is split over.
const CLIENTS: [usize; 4] = [1, 10, 100, 600];
/// Requests of an attack that are played.
const REQUESTS: usize = 600;
/// Honest rows before each request of the attack.
const BESIDE: usize = 3;

/// What became of an attack.
#[derive(Default)]
struct Split {
    rows: usize,
    block: Option<usize>,
    campaign: Option<usize>,
    named: usize,
    after: usize,
    refused: usize,
}

/// The table.
pub fn table() -> String {
    let mut table = Table::new(&[
        "attack",
        "clients",
        "rows",
        "a client blocked at row",
        "campaign told at row",
        "clients named",
        "questions refused of those after",
    ]);
    for (name, attack) in attacks() {
        eprintln!("quality: {name} over many clients");
        for clients in CLIENTS {
            let split = split(&attack, clients);
            let refused = split.campaign.map(|_| format!("{} / {}", split.refused, split.after));
            table.row(&[
                name.to_owned(),
                clients.to_string(),
                split.rows.to_string(),
                or_dash(split.block),
                or_dash(split.campaign),
                or_dash(split.campaign.map(|_| split.named)),
                or_dash(refused),
            ]);
        }
    }
    table.finish()
}

fn split(attack: &Stream, clients: usize) -> Split {
    let setting = Setting { holds: true, ..TRUSTED };
    let mut traffic = Traffic::new(people(model_of(&attack.name)), Host::new(&attack.name, setting));
    let mut split = Split::default();
    for (turn, request) in attack.requests.iter().take(REQUESTS).enumerate() {
        traffic.go_on(BESIDE);
        let now = traffic.now();
        traffic.rows += request.rows.len();
        let out = traffic.host.ask_at(1 + (turn % clients) as u32, now, request);
        split.rows += request.rows.len();
        if split.campaign.is_some() {
            split.after += 1;
            split.refused += usize::from(out.refused_by.is_some());
        }
        if !out.blocks.is_empty() {
            split.block.get_or_insert(split.rows);
        }
        if let Some(record) = out.records.iter().find(|record| record.detector == campaign::NAME) {
            split.campaign.get_or_insert(split.rows);
            split.named = record.campaign.as_ref().map_or(0, |campaign| campaign.clients_total);
        }
    }
    split
}
