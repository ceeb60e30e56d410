//! One page for people: self-contained, without a script, light and dark.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{ByOutcome, Client, Outcome, Report, Tally};
use crate::farthest;
use crate::rehearse::form::escape::Escaped;
use crate::rehearse::form::page;
use crate::told::moment;

/// Clients that the table shows; the JSON form has more.
const CLIENTS_SHOWN: usize = 200;

/// The report as a page.
#[must_use]
pub fn write(report: &Report) -> String {
    let span = format!("From {} to {}", moment(report.since), moment(report.until));
    let mut page = page::begin("What was decided", "What was decided", &span);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(page, "<p class=\"lead\">{}</p>", Escaped(&report.summary().join(" ")));
    let outcomes = report.outcomes.iter().map(|(outcome, tally)| (outcome.words(), tally));
    write_table(&mut page, "What became of them", "Decisions that", outcomes, &report.all);
    let reasons = report.held_back.iter().map(|(reason, tally)| (reason.as_str(), tally));
    write_table(&mut page, "What kept decisions back", "Reason", reasons, &report.all);
    write_groups(&mut page, "Detectors", "Detector", &report.detectors, &report.all);
    write_groups(&mut page, "Models", "Model", &report.models, &report.all);
    write_groups(&mut page, "Tenants", "Tenant", &report.tenants, &report.all);
    write_clients(&mut page, report);
    page.push_str(&farthest::html(&report.farthest));
    let _ = writeln!(
        page,
        "</main>\n<footer>\n<p>Requests are those that came from a client while a decision on it stood. Whoever is \
         blocked asks otherwise afterwards; what was only observed says how much would have been refused at most.</p>\n\
         <p>checkgate {}</p>\n</footer>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn write_groups(
    page: &mut String,
    title: &str,
    what: &str,
    groups: &BTreeMap<String, ByOutcome>,
    all: &Tally,
) {
    let tallies = groups.iter().map(|(name, group)| (name.as_str(), &group.all));
    write_table(page, title, what, tallies, all);
}

fn write_table<'a>(
    page: &mut String,
    title: &str,
    what: &str,
    lines: impl Iterator<Item = (&'a str, &'a Tally)>,
    all: &Tally,
) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    let _ = writeln!(
        page,
        "<section>\n<h2>{title}</h2>\n<div class=\"wide\">\n<table>\n<thead><tr><th>{what}</th>\
         <th class=\"number\">Decisions</th><th class=\"number\">Clients</th><th class=\"number\">Requests</th>\
         <th>Share of the decisions</th></tr></thead>\n<tbody>"
    );
    for (name, Tally { decisions, clients, requests }) in lines {
        let share = *decisions as f64 / all.decisions.max(1) as f64;
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"number\">{decisions}</td><td class=\"number\">{clients}</td>\
             <td class=\"number\">{requests}</td><td>{}</td></tr>",
            Escaped(name),
            bar(share)
        );
    }
    page.push_str("</tbody>\n</table>\n</div>\n</section>\n");
}

/// A bar for a share, 0 to 1.
fn bar(share: f64) -> String {
    let width = (share * 160.0).clamp(0.0, 160.0);
    format!(
        "<svg viewBox=\"0 0 160 10\" width=\"160\" height=\"10\" role=\"img\" aria-label=\"{:.0} %\"><rect width=\"{width:.1}\" \
         height=\"10\" fill=\"currentColor\"/></svg>",
        share * 100.0
    )
}

fn write_clients(page: &mut String, report: &Report) {
    if report.clients.is_empty() {
        return;
    }
    page.push_str(
        "<section>\n<h2>Clients</h2>\n<div class=\"wide\">\n<table>\n<thead><tr><th>Client</th><th>Tenant</th>\
         <th>What</th><th>By</th><th>Model</th><th class=\"number\">Requests</th><th>Decision</th></tr></thead>\n<tbody>\n",
    );
    report.clients.iter().take(CLIENTS_SHOWN).for_each(|client| write_client(page, client));
    page.push_str("</tbody>\n</table>\n</div>\n");
    let more = report.clients.len().saturating_sub(CLIENTS_SHOWN) as u64 + report.clients_left_out;
    if more > 0 {
        let _ = writeln!(page, "<p class=\"soft\">And {more} more clients.</p>");
    }
    page.push_str("</section>\n");
}

fn write_client(page: &mut String, client: &Client) {
    let class = match client.outcome {
        Outcome::Acted => "high",
        Outcome::WouldHaveActed | Outcome::Proposed => "medium",
        Outcome::HeldBack | Outcome::Undone => "calm",
    };
    let spared = if client.never_block { "<span class=\"why\">on the never-block list</span>" } else { "" };
    let _ = writeln!(
        page,
        "<tr><td><code>{}</code>{spared}</td><td>{}</td><td class=\"{class}\">{}<span class=\"why\">{}</span></td>\
         <td><code>{}</code></td><td>{}</td><td class=\"number\">{}</td><td><code>{}</code></td></tr>",
        Escaped(&client.client),
        Escaped(client.tenant.as_deref().unwrap_or("")),
        Escaped(&client.action),
        client.outcome.words(),
        Escaped(&client.detector),
        Escaped(&client.model),
        client.requests,
        Escaped(&client.decision)
    );
}
