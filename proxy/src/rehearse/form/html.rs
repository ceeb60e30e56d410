//! One page for people: self-contained, without a script, light and dark.

use std::fmt::Write;

use super::escape::Escaped;
use super::text::side;
use super::{drift, page, plot, words};
use crate::farthest;
use crate::rehearse::NOTICE;
use crate::rehearse::Severity;
use crate::rehearse::attack::{AttackVerdict, Moment};
use crate::rehearse::candidate::Candidate;
use crate::rehearse::compare::{ClientDifference, Comparison};
use crate::rehearse::report::{AttackRun, ClientVerdict, Outcome, Report, Traffic};
use crate::told::moment;

/// Clients that the table shows; the JSON form has them all.
const CLIENTS_SHOWN: usize = 200;
/// Outputs of a candidate that are drawn.
const OUTPUTS_DRAWN: usize = 6;

/// The report as a page.
pub fn write(report: &Report) -> String {
    let policy = report.policy.as_deref().unwrap_or("the recorded settings");
    let policy = Escaped(policy);
    let mut page = page::begin(
        &format!("Rehearsal under {policy}"),
        "What this policy would have done",
        &format!("A rehearsal under <code>{policy}</code>{}", Escaped(&recordings(report))),
    );
    write_summary(&mut page, report);
    if let Some(traffic) = &report.traffic {
        write_traffic(&mut page, traffic);
        page.push_str(&farthest::html(&traffic.farthest));
        drift::write(&mut page, traffic);
    }
    report.attacks.iter().filter(|run| !run.attacks.is_empty()).for_each(|run| write_attacks(&mut page, run));
    if let Some(comparison) = &report.comparison {
        write_comparison(&mut page, comparison);
    }
    if let Some(candidate) = &report.candidate {
        write_candidate(&mut page, candidate);
    }
    write_footer(&mut page, report);
    page
}

fn recordings(report: &Report) -> String {
    let Some(traffic) = &report.traffic else { return ", without recorded traffic".to_owned() };
    format!(", on {} ({} to {})", traffic.recordings.join(", "), moment(traffic.from), moment(traffic.until))
}

fn write_summary(page: &mut String, report: &Report) {
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "<p class=\"lead\">{}</p>", Escaped(&words::summary(report).join(" ")));
    for note in &report.notes {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", Escaped(note));
    }
    page.push_str("<ul class=\"tiles\">\n");
    let mut tile = |class: &str, count: u64, what: &str| {
        let count = words::grouped(count);
        let _ = writeln!(page, "<li><b class=\"{class}\">{count}</b><span>{what}</span></li>");
    };
    if let Some(traffic) = &report.traffic {
        let blocked = traffic.verdicts.iter().filter(|verdict| verdict.outcome == Outcome::Blocked);
        let blocked = blocked.count() as u64;
        tile("", traffic.requests, "requests recorded");
        tile("", traffic.clients as u64, "clients");
        tile(if blocked > 0 { "high" } else { "calm" }, blocked, "clients blocked");
        tile("", traffic.refused, "requests refused");
    }
    let attacks = || report.attacks.iter().flat_map(|run| &run.attacks);
    if attacks().next().is_some() {
        let stopped = attacks().filter(|attack| attack.block.as_ref().is_some_and(|block| block.acts));
        tile("calm", stopped.count() as u64, "attacks blocked");
        let unseen = attacks().filter(|attack| attack.first_finding.is_none()).count() as u64;
        tile(if unseen > 0 { "medium" } else { "calm" }, unseen, "attacks never noticed");
    }
    page.push_str("</ul>\n");
}

fn write_traffic(page: &mut String, traffic: &Traffic) {
    page.push_str("<section>\n<h2>Clients</h2>\n");
    if traffic.verdicts.is_empty() {
        page.push_str("<p>Nothing would have been told of any client.</p>\n</section>\n");
        return;
    }
    page.push_str("<figure>\n");
    page.push_str(&plot::over_time(traffic));
    page.push_str(
        "<figcaption>Above all requests over time. Below, for each client that something is told of, a line from its \
         first to its last request: a dot where something is told, a bar for as long as a decision acts.",
    );
    let more = traffic.verdicts.len().saturating_sub(plot::CLIENTS_SHOWN);
    if more > 0 {
        let _ = write!(page, " {more} more clients are not drawn.");
    }
    page.push_str(
        "</figcaption>\n</figure>\n<div class=\"wide\">\n<table>\n<thead><tr><th>Client</th><th>What</th>",
    );
    page.push_str("<th>When and why</th><th class=\"number\">Answered</th><th class=\"number\">Refused</th></tr></thead>\n<tbody>\n");
    traffic.verdicts.iter().take(CLIENTS_SHOWN).for_each(|verdict| write_client(page, verdict));
    page.push_str("</tbody>\n</table>\n</div>\n");
    let more = traffic.verdicts.len().saturating_sub(CLIENTS_SHOWN);
    if more > 0 {
        let _ = writeln!(page, "<p class=\"soft\">The JSON form holds {more} more clients.</p>");
    }
    write_not_inspected(page, traffic);
    page.push_str("</section>\n");
}

fn write_client(page: &mut String, verdict: &ClientVerdict) {
    let severity = verdict.severity.as_str();
    let _ = write!(
        page,
        "<tr><td><code>{}</code></td><td class=\"{severity}\">{}<span class=\"why\">{severity}</span></td><td>",
        Escaped(&verdict.client),
        verdict.outcome.as_str()
    );
    if let Some(told) = verdict.decisive() {
        let _ = write!(
            page,
            "{} <code>{}</code><span class=\"why\">{}</span>",
            moment(told.time),
            Escaped(&told.detector),
            Escaped(&told.explanation)
        );
    }
    let _ = writeln!(
        page,
        "</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
        words::grouped(verdict.answered),
        words::grouped(verdict.refused)
    );
}

fn write_not_inspected(page: &mut String, traffic: &Traffic) {
    if traffic.not_inspected.is_empty() {
        return;
    }
    let reasons =
        traffic.not_inspected.iter().map(|(reason, count)| format!("{reason} {}", words::grouped(*count)));
    let reasons: Vec<String> = reasons.collect();
    let _ = writeln!(page, "<p class=\"soft\">Parts not looked into: {}.</p>", Escaped(&reasons.join(", ")));
}

fn write_attacks(page: &mut String, run: &AttackRun) {
    let models = if run.models.iter().all(String::is_empty) {
        "models that are not named".to_owned()
    } else {
        run.models.join(", ")
    };
    let _ = writeln!(
        page,
        "<section>\n<h2>Recorded attacks in front of the policy of {} ({})</h2>\n<figure>",
        Escaped(&models),
        words::mode(run.mode)
    );
    page.push_str(&plot::attacks(&run.attacks));
    page.push_str(
        "<figcaption>Rows of each attack, on a logarithmic scale: dark where they are answered, a dot where the attack \
         is first told of, a line where it is blocked, and at the end the share of its rows that the attacker gets.\
         </figcaption>\n</figure>\n<div class=\"wide\">\n<table>\n<thead><tr><th>Attack</th>\
         <th class=\"number\">Told of at row</th><th class=\"number\">Blocked at row</th><th>By</th>\
         <th class=\"number\">Rows answered</th><th class=\"number\">Of</th></tr></thead>\n<tbody>\n",
    );
    run.attacks.iter().for_each(|attack| write_attack(page, attack));
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

fn write_attack(page: &mut String, attack: &AttackVerdict) {
    let row =
        |moment: Option<&Moment>| moment.map_or("never".to_owned(), |moment| words::grouped(moment.row));
    let block = match &attack.block {
        Some(block) if !block.acts => format!("{}, not acted on", words::grouped(block.row)),
        block => row(block.as_ref()),
    };
    let decisive = attack.block.as_ref().or(attack.first_decision.as_ref()).or(attack.first_finding.as_ref());
    let _ = writeln!(
        page,
        "<tr><td>{}<span class=\"why\">{}</span></td><td class=\"number\">{}</td><td class=\"number\">{block}</td>\
         <td><code>{}</code></td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
        Escaped(&attack.name),
        Escaped(if attack.aim.is_empty() { &attack.model } else { attack.aim }),
        row(attack.first_finding.as_ref()),
        Escaped(decisive.map_or("", |moment| &moment.detector)),
        words::grouped(attack.rows_answered),
        words::grouped(attack.rows)
    );
}

fn write_comparison(page: &mut String, comparison: &Comparison) {
    let other = Escaped(&comparison.other);
    let _ = writeln!(page, "<section>\n<h2>Compared with <code>{other}</code></h2>");
    let _ = writeln!(page, "<p class=\"note\">{}</p>", Escaped(comparison.caveat));
    if comparison.clients.is_empty() && comparison.attacks.is_empty() {
        page.push_str("<p>It would have done the same.</p>\n");
    }
    if !comparison.attacks.is_empty() {
        page.push_str("<figure>\n");
        page.push_str(&plot::differences(&comparison.attacks));
        page.push_str(
            "<figcaption>Share of each attack's rows that is answered, where the two differ: a dot here, a ring under the \
             other policy.</figcaption>\n</figure>\n",
        );
    }
    if !comparison.clients.is_empty() {
        page.push_str("<div class=\"wide\">\n<table>\n<thead><tr><th>Client</th><th>Here</th><th>There</th></tr></thead>\n<tbody>\n");
        comparison.clients.iter().take(CLIENTS_SHOWN).for_each(|client| write_difference(page, client));
        page.push_str("</tbody>\n</table>\n</div>\n");
    }
    page.push_str("</section>\n");
}

fn write_difference(page: &mut String, difference: &ClientDifference) {
    let _ = writeln!(
        page,
        "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
        Escaped(&difference.client),
        Escaped(&side(&difference.this)),
        Escaped(&side(&difference.other))
    );
}

fn write_candidate(page: &mut String, candidate: &Candidate) {
    let _ = writeln!(page, "<section>\n<h2>Candidate <code>{}</code></h2>", Escaped(&candidate.server));
    for (name, shift) in &candidate.models {
        let facts = words::shift(shift).join(", ");
        let _ = writeln!(page, "<p>Model <code>{}</code>: {}.</p>", Escaped(name), Escaped(&facts));
        for output in shift.outputs.iter().take(OUTPUTS_DRAWN) {
            let _ = writeln!(
                page,
                "<figure>{}<figcaption>Output <code>{}</code>: share of answers up to a value, solid as recorded, dashed \
                 by the candidate; {}.</figcaption></figure>",
                plot::curves(output),
                Escaped(&output.output),
                Escaped(&words::output(output))
            );
        }
    }
    for (reason, count) in &candidate.not_compared {
        let (count, reason) = (words::grouped(*count), Escaped(reason));
        let _ = writeln!(page, "<p class=\"soft\">Not compared: {count} ({reason}).</p>");
    }
    if !candidate.broken.is_empty() {
        page.push_str("<table>\n<thead><tr><th>Request</th><th>Broken contract</th><th>Recorded</th></tr></thead>\n<tbody>\n");
        for broken in &candidate.broken {
            let _ = writeln!(
                page,
                "<tr><td><code>{}</code></td><td class=\"high\">{}</td><td>{}</td></tr>",
                Escaped(&broken.request),
                Escaped(&broken.explanation),
                if broken.recorded_too { "broken, too" } else { "kept it" }
            );
        }
        page.push_str("</tbody>\n</table>\n");
    }
    page.push_str("</section>\n");
}

fn write_footer(page: &mut String, report: &Report) {
    let by_severity = report.traffic.iter().flat_map(|traffic| &traffic.findings_by_severity);
    let counts: Vec<String> = by_severity
        .rev()
        .map(|(severity, count)| format!("{} {}", words::grouped(*count), word(*severity)))
        .collect();
    page.push_str("</main>\n<footer>\n");
    if !counts.is_empty() {
        let _ = writeln!(page, "<p>Findings by severity: {}.</p>", counts.join(", "));
    }
    page.push_str(
        "<p>High: a client is blocked in <code>enforce</code>. Medium: a finding of tier 1 without such a block, or \
         something weaker is done. Low: something is told. A recording is no attacker: whoever is blocked would have \
         asked something else next.</p>\n",
    );
    if report.attacks.iter().flat_map(|run| &run.attacks).any(|attack| attack.from_pack) {
        let _ = writeln!(
            page,
            "<details><summary>Where the rows of the attack pack come from</summary><pre>{}</pre></details>",
            Escaped(NOTICE)
        );
    }
    let _ = writeln!(page, "<p>checkgate {}</p>\n</footer>\n</body>\n</html>", Escaped(report.checkgate));
}

fn word(severity: Severity) -> &'static str {
    severity.as_str()
}
