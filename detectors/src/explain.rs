//! Sentences for a person at 3 a.m.: who did what, how much of it, and what is done about it until when.
//!
//! They say the same in both modes: a decision is one thing, whether the gate acts on it another.

use std::time::Duration;

use crate::campaign::Campaign;
use crate::contract::Violation;
use crate::facts::Time;
use crate::finding::{Action, Grounds, Proposed};
use crate::identity::Identity;
use crate::ladder::Rung;
use crate::lines::Trail;
use crate::reference::Trust;
use crate::standing::Doubt;
use crate::tenants::TenantTag;

/// Why the gate may not act on a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The address is on the never-block list.
    NeverBlock,
    /// The identity is not proven.
    Unproven(Doubt),
}

/// Why a decision is weaker than policy asked for; it follows what [`decision`] says.
pub const SHARED: &str = " Many people share this address (clients.shared_addresses): nothing stronger than a throttle \
                          follows on it, only on a key, token or certificate.";

/// What follows from a note.
pub const NOTE: &str = "This is a note: it is told once a detector that looks at something else agrees.";

/// Another detector that speaks of the same client, with a space behind.
#[must_use]
pub fn ally(detector: &str) -> String {
    format!("{detector} spoke of it within a day, too. ")
}

/// Where a decision holds that holds at one model; it follows what [`decision`] or [`proposal`] says.
pub const ONE_MODEL: &str = " It holds at this model alone.";

/// What a client did, and the rows that show it.
#[must_use]
pub fn evidence(client: Identity, did: &str, trail: &Trail, time: Time) -> String {
    let rows = plural(u64::from(trail.rows), "row");
    let requests = plural(u64::from(trail.requests), "request");
    format!("Client {client} {did}: {rows} in {requests} within {}.", span(time.since(trail.since)))
}

/// What follows from a decision on a client.
#[must_use]
pub fn decision(action: Action, rung: Rung, until: Time, reservation: Option<Reservation>) -> String {
    let lasts = format!("for {}{}, until {} UTC", span(rung.lasts), place(rung), clock(until));
    let (done, undone) = match action {
        Action::Tag => ("Its requests are to be tagged for the model server", "tagged"),
        Action::Throttle => ("Its requests are to be throttled", "throttled"),
        Action::Degrade => ("Its answers are to be coarsened and delayed", "degraded"),
        _ => ("Its requests are to be refused", "refused"),
    };
    match reservation {
        None => format!("{done} {lasts}."),
        Some(reservation) => format!("Nothing is {undone}: {}.", reason(reservation)),
    }
}

/// What follows from a proposal of a decision on a client.
#[must_use]
pub fn proposal(proposed: &Proposed, rung: Rung, reservation: Option<Reservation>) -> String {
    if let Some(reservation) = reservation {
        return format!("Nothing is proposed: {}.", reason(reservation));
    }
    let done = match proposed.action {
        Action::Tag => "to tag its requests for the model server",
        Action::Throttle => "to throttle its requests",
        Action::Degrade => "to coarsen and delay its answers",
        _ => "to refuse its requests",
    };
    let waits = match (proposed.approves, proposed.expires) {
        (Some(approves), _) => format!("it approves itself at {} UTC unless it is rejected", clock(approves)),
        (None, Some(expires)) => format!("it can be approved until {} UTC", clock(expires)),
        (None, None) => "it waits for approval".to_owned(),
    };
    format!(
        "It is proposed {done} for {}{}; {waits}, and nothing is done before.",
        span(rung.lasts),
        place(rung)
    )
}

/// The rule and the tenant that policy went by, each as a sentence with a space in front.
#[must_use]
pub fn grounds(grounds: &Grounds) -> String {
    let rule = grounds.rule.as_ref().map(|rule| format!(" So says {rule}."));
    let tenant = grounds
        .tenant
        .as_ref()
        .map(|TenantTag { name, tier }| format!(" The client belongs to the tenant {name} of tier {tier}."));
    rule.into_iter().chain(tenant).collect()
}

/// What follows from an alert.
#[must_use]
pub fn alert(rests_on: Option<Trust>, grounds: &Grounds, muted_until: Option<Time>) -> String {
    let follows = match (&grounds.muted, muted_until) {
        (Some(note), Some(until)) => format!(
            "This is an alert, muted until {} UTC ({note}): what rests on the reference decides nothing meanwhile.",
            clock(until)
        ),
        _ => usual_alert(rests_on).to_owned(),
    };
    format!("{follows}{}", self::grounds(grounds))
}

fn usual_alert(rests_on: Option<Trust>) -> &'static str {
    match rests_on {
        Some(Trust::Provisional) => {
            "This is an alert: the reference was learned from traffic and nobody has vouched for it; name one with \
             --reference MODEL=FILE."
        }
        Some(Trust::Trusted) | None => "This is an alert: it does not block by itself.",
    }
}

/// What a client does that carries the drift of its model.
#[must_use]
pub fn carrier(client: Identity, share: f64) -> String {
    format!(
        "Client {client} carries the drift of this model with {:.0} % of the latest rows: it behaves unlike before, and \
         without it the rest looks as before.",
        share * 100.0
    )
}

/// What several clients did together, and what follows where questions are held.
#[must_use]
pub fn campaign(campaign: &Campaign, trail: &Trail, time: Time, refused_until: Option<Time>) -> String {
    let follows = match refused_until {
        Some(until) => format!("Questions that lie among them are refused until {} UTC.", clock(until)),
        None => "This is an alert: it refuses nobody by itself.".to_owned(),
    };
    format!(
        "{} of {} form one cluster, {} within {}, closer together than honest rows come: {} among others. {follows}",
        plural(u64::from(trail.rows), "row"),
        plural(campaign.clients_total as u64, "client"),
        plural(u64::from(trail.requests), "request"),
        span(time.since(trail.since)),
        campaign.clients.join(", "),
    )
}

/// A broken contract.
#[must_use]
pub fn violation(
    client: Identity,
    output: &str,
    violation: &Violation,
    count: u64,
    action: Action,
) -> String {
    let Violation { row, found, expected, .. } = violation;
    let consequence = match action {
        Action::Alert => "The answer goes on as it is",
        Action::Clamp => "The offending values are moved to the nearest allowed ones",
        Action::Fallback => "The operator's own answer stands in",
        Action::Refuse | Action::Tag | Action::Throttle | Action::Degrade | Action::Block => {
            "The answer is withheld"
        }
    };
    format!(
        "The model answered client {client} with {found} in output {output:?} of row {row}, where the contract asks \
         for {expected}; {} of this client's answers broke it so far. {consequence}.",
        plural(count, "row")
    )
}

fn reason(reservation: Reservation) -> &'static str {
    match reservation {
        Reservation::NeverBlock => "the address is on the never-block list",
        Reservation::Unproven(Doubt::Loopback) => {
            "a loopback address can be any process or proxy of this machine; tell clients apart with --client ip, \
             --client header:NAME or --trusted-proxy CIDR"
        }
        Reservation::Unproven(Doubt::CarriesHalf) => {
            "over half of this model's requests come from this one address, which may be a proxy in front of many; \
             tell clients apart with --client ip, --client header:NAME or --trusted-proxy CIDR"
        }
        Reservation::Unproven(Doubt::FewAddresses) => {
            "at most 8 addresses carry over 90 % of this model's requests and may be proxies in front of many; \
             tell clients apart with --client ip, --client header:NAME or --trusted-proxy CIDR"
        }
    }
}

/// The place of a rung on its ladder, with a space in front; nothing where there is one rung only.
fn place(rung: Rung) -> String {
    if rung.of > 1 { format!(" (rung {} of {})", rung.number, rung.of) } else { String::new() }
}

fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn span(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn clock(time: Time) -> String {
    let seconds = time.0 / 1_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_clock_times_read_well() {
        let spans = [(500, "0.5 s"), (90_000, "90 s"), (900_000, "15 min"), (7_200_000, "2 h")];
        for (milliseconds, expected) in spans {
            assert_eq!(span(Duration::from_millis(milliseconds)), expected);
        }
        assert_eq!(clock(Time(1_764_000_000 * 1_000_000)), "16:00:00");
        assert_eq!((plural(1, "row"), plural(2, "row")), ("1 row".to_owned(), "2 rows".to_owned()));
    }
}
