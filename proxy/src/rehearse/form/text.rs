//! For people, on a terminal.

use std::fmt::Write;

use checkgate_detectors::drift;

use super::words;
use crate::farthest;
use crate::rehearse::attack::AttackVerdict;
use crate::rehearse::candidate::Candidate;
use crate::rehearse::compare::{AttackDifference, ClientDifference, Comparison, Side};
use crate::rehearse::report::{AttackRun, ClientVerdict, Outcome, Report, Traffic};
use crate::rehearse::{NOTICE, Severity};
use crate::told::{bar, clean, moment};

/// Clients that are shown one by one; the JSON form has them all.
const CLIENTS_SHOWN: usize = 40;
/// Changes of drift that are shown one by one.
const DRIFT_SHOWN: usize = 20;
/// Broken answers of a candidate that are shown one by one.
const BROKEN_SHOWN: usize = 10;
/// Cells of the bar of an attack.
const BAR_CELLS: usize = 20;

/// The report as text.
pub fn write(report: &Report, fail_on: Option<Severity>) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail, here and below.
    let policy = report.policy.as_deref().unwrap_or("the recorded settings");
    let _ = writeln!(page, "Rehearsal under {}\n", clean(policy));
    for sentence in words::summary(report) {
        let _ = writeln!(page, "  {}", clean(&sentence));
    }
    for note in &report.notes {
        let _ = writeln!(page, "\n  note: {}", clean(note));
    }
    if let Some(traffic) = &report.traffic {
        write_clients(&mut page, traffic);
        page.push_str(&farthest::text(&traffic.farthest));
        write_drift(&mut page, traffic);
    }
    report.attacks.iter().for_each(|run| write_attacks(&mut page, run));
    if let Some(comparison) = &report.comparison {
        write_comparison(&mut page, comparison);
    }
    if let Some(candidate) = &report.candidate {
        write_candidate(&mut page, candidate);
    }
    if let Some(severity) = fail_on {
        let findings = report.findings_from(severity);
        let graver = if severity == Severity::High { "" } else { " or graver" };
        let _ = writeln!(
            page,
            "\ngate: {} of severity {}{graver}",
            words::counted(findings, "finding"),
            severity.as_str()
        );
    }
    page
}

fn write_clients(page: &mut String, traffic: &Traffic) {
    if traffic.verdicts.is_empty() {
        return;
    }
    let _ = writeln!(page, "\nClients");
    traffic.verdicts.iter().take(CLIENTS_SHOWN).for_each(|verdict| write_client(page, verdict));
    let more = traffic.verdicts.len().saturating_sub(CLIENTS_SHOWN);
    if more > 0 {
        let _ = writeln!(page, "\n  and {more} more; --format json has them all");
    }
}

fn write_drift(page: &mut String, traffic: &Traffic) {
    if traffic.drift.is_empty() {
        return;
    }
    let _ = writeln!(page, "\nDrift");
    for record in traffic.drift.iter().take(DRIFT_SHOWN) {
        let change = drift::record::change(record.change);
        let _ =
            writeln!(page, "\n  {change:<9}  {}  {}", moment(record.time.seconds()), clean(&record.model));
        let _ = writeln!(page, "             {}", clean(&record.explanation));
    }
    let more = traffic.drift.len().saturating_sub(DRIFT_SHOWN) as u64 + traffic.drift_not_shown;
    if more > 0 {
        let _ = writeln!(page, "\n  and {more} more; --format json has the first 1,000");
    }
}

fn write_client(page: &mut String, verdict: &ClientVerdict) {
    let _ = writeln!(
        page,
        "\n  {:<6}  {}  {}",
        verdict.severity.as_str(),
        clean(&verdict.client),
        words::client(verdict)
    );
    if let Some(told) = verdict.decisive() {
        let _ = writeln!(page, "          {}, model {}", moment(told.time), clean(&told.model));
        let _ = writeln!(page, "          {}", clean(&told.explanation));
    }
}

fn write_attacks(page: &mut String, run: &AttackRun) {
    if run.attacks.is_empty() {
        return;
    }
    let models: Vec<String> = run.models.iter().map(|name| clean(name)).collect();
    let models = if models.iter().all(String::is_empty) {
        "models that are not named".to_owned()
    } else {
        models.join(", ")
    };
    let _ = writeln!(page, "\nAttacks in front of the policy of {models} ({})\n", words::mode(run.mode));
    let widest = run.attacks.iter().map(|attack| attack.name.chars().count()).max().unwrap_or(0);
    run.attacks.iter().for_each(|attack| write_attack(page, attack, widest));
    if run.attacks.iter().any(|attack| attack.from_pack) {
        let _ = writeln!(
            page,
            "\n  A bar shows how much of an attack's rows was answered. The pack runs in front of the models that it\n  \
             was recorded at, with their references; {}",
            licences()
        );
    }
}

/// Where the rows of the pack come from, in one sentence.
fn licences() -> &'static str {
    if NOTICE.contains("CC BY 4.0") {
        "its rows come from UCI data sets (CC BY 4.0) and an invented\n  tariff: `checkgate rehearse --notice`."
    } else {
        "`checkgate rehearse --notice` says where its rows come from."
    }
}

fn write_attack(page: &mut String, attack: &AttackVerdict, widest: usize) {
    let _ = writeln!(
        page,
        "  {:<widest$}  {:<BAR_CELLS$}  {:>5} rows  {}",
        clean(&attack.name),
        bar(attack.share_answered, BAR_CELLS),
        words::grouped(attack.rows),
        words::attack(attack)
    );
}

fn write_comparison(page: &mut String, comparison: &Comparison) {
    let other = clean(&comparison.other);
    let _ = writeln!(page, "\nCompared with {other}\n");
    if comparison.clients.is_empty() && comparison.attacks.is_empty() {
        let _ = writeln!(page, "  It would have done the same.");
    }
    comparison.clients.iter().take(CLIENTS_SHOWN).for_each(|client| write_difference(page, client));
    let more = comparison.clients.len().saturating_sub(CLIENTS_SHOWN);
    if more > 0 {
        let _ = writeln!(page, "  and {more} more clients; --format json has them all");
    }
    for attack in &comparison.attacks {
        let AttackDifference { name, rows, this_answers, other_answers, .. } = attack;
        let _ = writeln!(
            page,
            "  {}  {this_answers} of {rows} rows answered here, {other_answers} there",
            clean(name)
        );
    }
    let _ = writeln!(page, "\n  {}", comparison.caveat);
}

fn write_difference(page: &mut String, difference: &ClientDifference) {
    let _ = writeln!(
        page,
        "  {}  here {}; there {}",
        clean(&difference.client),
        side(&difference.this),
        side(&difference.other)
    );
}

fn write_candidate(page: &mut String, candidate: &Candidate) {
    let _ = writeln!(page, "\nCandidate {}\n", clean(&candidate.server));
    for (name, shift) in &candidate.models {
        let _ = writeln!(page, "  {}: {}", clean(name), words::shift(shift).join(", "));
        for output in &shift.outputs {
            let _ = writeln!(page, "    output {}: {}", clean(&output.output), words::output(output));
        }
    }
    for (reason, count) in &candidate.not_compared {
        let _ = writeln!(page, "  not compared: {} ({})", words::grouped(*count), clean(reason));
    }
    for broken in candidate.broken.iter().take(BROKEN_SHOWN) {
        let too = if broken.recorded_too { " The recorded answer broke it as well." } else { "" };
        let _ = writeln!(page, "  {}  {}{too}", clean(&broken.request), clean(&broken.explanation));
    }
}

/// What one policy does to a client, in a few words.
pub fn side(side: &Side) -> String {
    let by = side.detector.as_ref().map(|detector| format!(" by {detector}")).unwrap_or_default();
    let done = match side.outcome {
        Outcome::WouldAct => format!("a decision{by} not acted on"),
        outcome => format!("{}{by}", outcome.as_str()),
    };
    let (answered, refused) = (words::grouped(side.answered), words::grouped(side.refused));
    format!("{done}, {answered} answered and {refused} refused")
}
