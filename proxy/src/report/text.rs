//! For people, on a terminal.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{ByOutcome, Client, Outcome, Report, Tally};
use crate::farthest;
use crate::told::{bar, clean, moment};

/// Clients that are shown one by one; the JSON form has more.
const CLIENTS_SHOWN: usize = 20;
/// Cells of a bar.
const BAR_CELLS: usize = 20;

/// The report as text.
#[must_use]
pub fn write(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "What was decided from {} to {}\n", moment(report.since), moment(report.until));
    report.summary().iter().for_each(|sentence| _ = writeln!(page, "  {sentence}"));
    if report.all.decisions == 0 {
        return page + &farthest::text(&report.farthest);
    }
    let _ = writeln!(page, "\n{:<42}{:>10}{:>9}{:>10}", "Decisions that", "decisions", "clients", "requests");
    for (outcome, tally) in &report.outcomes {
        write_tally(&mut page, outcome.words(), tally, report.all.decisions);
    }
    if !report.held_back.is_empty() {
        let _ = writeln!(page, "\nKept back by");
        for (reason, tally) in &report.held_back {
            write_tally(&mut page, reason, tally, report.all.decisions);
        }
    }
    write_groups(&mut page, "Detectors", &report.detectors, report.all.decisions);
    write_groups(&mut page, "Models", &report.models, report.all.decisions);
    write_groups(&mut page, "Tenants", &report.tenants, report.all.decisions);
    write_clients(&mut page, report);
    page + &farthest::text(&report.farthest)
}

fn write_tally(page: &mut String, name: &str, tally: &Tally, of: u64) {
    let Tally { decisions, clients, requests } = tally;
    let share = bar(*decisions as f64 / of.max(1) as f64, BAR_CELLS);
    let _ = writeln!(page, "  {:<40}{decisions:>10}{clients:>9}{requests:>10}  {share}", clean(name));
}

fn write_groups(page: &mut String, title: &str, groups: &BTreeMap<String, ByOutcome>, of: u64) {
    if groups.is_empty() {
        return;
    }
    let _ = writeln!(page, "\n{title}");
    groups.iter().for_each(|(name, group)| write_tally(page, name, &group.all, of));
}

fn write_clients(page: &mut String, report: &Report) {
    let _ = writeln!(page, "\nClients, by the requests that came while a decision stood");
    for client in report.clients.iter().take(CLIENTS_SHOWN) {
        let Client { requests, action, detector, decision, model, .. } = client;
        let outcome = match client.outcome {
            Outcome::Acted => "",
            Outcome::WouldHaveActed => ", only observed",
            Outcome::HeldBack => ", kept back",
            Outcome::Proposed => ", only proposed",
            Outcome::Undone => ", undone",
        };
        let spared = if client.never_block { " (on the never-block list)" } else { "" };
        let tenant =
            client.tenant.as_ref().map(|tenant| format!(" of {}", clean(tenant))).unwrap_or_default();
        let _ = writeln!(
            page,
            "  {requests:>10}  {}{tenant}{spared}: {action}{outcome}, by {} on {}, {decision}",
            clean(&client.client),
            clean(detector),
            clean(model),
        );
    }
    let more = report.clients.len().saturating_sub(CLIENTS_SHOWN) as u64 + report.clients_left_out;
    if more > 0 {
        let _ = writeln!(page, "  and {more} more; --format json names up to 1,000");
    }
    let _ = writeln!(page, "\n`checkgate explain ID` tells why.");
}
