//! What the gate does of itself, as entries of the ledger. What the kill switch's file does is noted by the door to
//! changes, which knows what operators do meanwhile.

use checkgate_detectors::facts::Time;

use crate::gate::table::ActiveBlock;
use crate::gate::{Gate, Ticked};
use crate::ledger::Ledger;
use crate::ledger::entry::{By, What};

/// Notes what came of one tick of the gate.
pub fn ticked(ledger: &Ledger, gate: &Gate, ticked: &Ticked, now: Time) {
    if !ticked.approved.is_empty() {
        let in_force = gate.list(now);
        let approved = in_force.iter().filter(|block| ticked.approved.contains(&block.id));
        approved.for_each(|block| {
            note(ledger, now, What::Approved { id: block.id, until: block.until });
        });
    }
    for ended in &ticked.ended {
        note(ledger, now, What::Met { id: ended.id, requests: ended.requests });
    }
}

/// Notes how many requests met what is still in force: the process ends.
pub fn at_the_end(ledger: &Ledger, gate: &Gate, now: Time) {
    let met = |block: &ActiveBlock| (block.id, block.met.requests());
    for (id, requests) in gate.list(now).iter().map(met).filter(|(_, requests)| *requests > 0) {
        note(ledger, now, What::Met { id, requests });
    }
}

/// Nobody waits for it: the ledger says by itself what is not durable.
fn note(ledger: &Ledger, now: Time, what: What) {
    drop(ledger.note(now, By::itself(), what));
}
