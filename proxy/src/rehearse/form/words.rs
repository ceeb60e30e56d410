//! What all forms for people say in the same words.

use checkgate_detectors::finding::{Action, Mode};

use crate::rehearse::attack::AttackVerdict;
use crate::rehearse::candidate::{Candidate, ModelShift};
use crate::rehearse::report::{ClientVerdict, Outcome, Report, Traffic};
use crate::rehearse::shift::OutputShift;
use crate::told::number;

/// A number of things.
pub fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", grouped(count)),
    }
}

/// A number with commas between its thousands.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A span of seconds.
pub fn span(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        10.0..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.0} min", seconds / 60.0),
        7200.0..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

/// A share as a percentage; what is more than nothing never reads as 0 %, and what is not all never as 100 %.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        ..=0.0 => "0 %".to_owned(),
        ..0.1 => "under 0.1 %".to_owned(),
        percent @ ..1.0 => format!("{percent:.1} %"),
        percent @ ..99.5 => format!("{percent:.0} %"),
        percent @ ..100.0 => format!("{percent:.1} %"),
        _ => "100 %".to_owned(),
    }
}

/// What a rehearsal found, in sentences.
pub fn summary(report: &Report) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(traffic) = &report.traffic {
        sentences.extend(of_traffic(traffic));
    }
    let attacks: Vec<&AttackVerdict> = report.attacks.iter().flat_map(|run| &run.attacks).collect();
    if !attacks.is_empty() {
        sentences.push(of_attacks(&attacks));
    }
    sentences.extend(report.candidate.as_ref().map(of_candidate));
    sentences
}

fn of_candidate(candidate: &Candidate) -> String {
    let breaks = match (candidate.breaks, candidate.recorded_breaks) {
        (0, 0) => "none of its answers breaks the contract".to_owned(),
        (breaks, recorded) => format!(
            "{} the contract, where {} did of the recorded ones",
            if breaks == 1 {
                "1 of its answers breaks".to_owned()
            } else {
                format!("{} of its answers break", grouped(breaks))
            },
            grouped(recorded)
        ),
    };
    format!(
        "The candidate was asked {}, {} could be compared, and {breaks}.",
        counted(candidate.asked, "recorded question"),
        grouped(candidate.compared)
    )
}

/// How one model's answers differ, a sentence to each fact.
pub fn shift(shift: &ModelShift) -> Vec<String> {
    let mut facts = vec![format!("{} in {}", counted(shift.rows, "row"), counted(shift.questions, "answer"))];
    if shift.other_row_counts > 0 {
        facts.push(format!("{} with another number of rows", counted(shift.other_row_counts, "answer")));
    }
    if let Some(labels) = &shift.labels {
        facts.push(format!("labels agree on {} of {}", percent(labels.share), counted(labels.rows, "row")));
    }
    facts
}

/// How one output moved, in a few words.
pub fn output(output: &OutputShift) -> String {
    format!(
        "mean difference {}, mean size {}, largest {}, KS distance {}",
        number(output.mean_difference),
        number(output.mean_absolute_difference),
        number(output.largest_absolute_difference),
        number(output.ks_distance)
    )
}

fn of_traffic(traffic: &Traffic) -> Vec<String> {
    let asked = format!(
        "{} of {} within {}.",
        counted(traffic.requests, "request"),
        counted(traffic.clients as u64, "client"),
        span(traffic.until - traffic.from)
    );
    let with = |outcome: Outcome| {
        traffic.verdicts.iter().filter(|verdict| verdict.outcome == outcome).count() as u64
    };
    let mut done: Vec<String> = [Outcome::Blocked, Outcome::Degraded, Outcome::Throttled, Outcome::Tagged]
        .into_iter()
        .filter(|outcome| with(*outcome) > 0)
        .map(|outcome| format!("{} would have been {}", counted(with(outcome), "client"), outcome.as_str()))
        .collect();
    if done.is_empty() {
        done.push("Nobody would have been blocked, degraded or throttled".to_owned());
    }
    let refused = match traffic.refused {
        0 => String::new(),
        refused => format!("; {} refused", counted(refused, "request")),
    };
    let mut sentences = vec![asked, format!("{}{refused}.", done.join(", "))];
    if with(Outcome::WouldAct) > 0 {
        sentences.push(format!(
            "Decisions on {} would not have acted, as in `observe`.",
            counted(with(Outcome::WouldAct), "client")
        ));
    }
    if with(Outcome::Told) > 0 {
        sentences.push(format!(
            "Of {} something is told and nothing done.",
            counted(with(Outcome::Told), "client")
        ));
    }
    if traffic.answers_that_break_their_contract > 0 {
        let answers = counted(traffic.answers_that_break_their_contract, "answer");
        sentences.push(format!("{answers} of the model broke the contract."));
    }
    sentences
}

fn of_attacks(attacks: &[&AttackVerdict]) -> String {
    let count = |what: &dyn Fn(&AttackVerdict) -> bool| attacks.iter().filter(|attack| what(attack)).count();
    let blocked = count(&|attack| attack.block.as_ref().is_some_and(|block| block.acts));
    let held_back = count(&|attack| attack.block.as_ref().is_some_and(|block| !block.acts));
    let unnoticed = count(&|attack| attack.first_finding.is_none());
    let mut sentence = format!("Of {} recorded attacks, {blocked} would have been blocked", attacks.len());
    if held_back > 0 {
        sentence.push_str(&format!(", {held_back} would have been in `enforce`"));
    }
    sentence.push_str(&format!(", {unnoticed} would never have been noticed."));
    sentence
}

/// What an attack would have got away with, in a few words.
pub fn attack(attack: &AttackVerdict) -> String {
    let got = percent(attack.share_answered);
    match (&attack.block, &attack.first_decision, &attack.first_finding) {
        (Some(block), _, _) if block.acts => {
            format!("blocked at row {} by {}, {got} answered", grouped(block.row), block.detector)
        }
        (Some(block), _, _) => {
            format!("not acted on; a block was due at row {} by {}", grouped(block.row), block.detector)
        }
        (None, Some(told), _) => format!(
            "{} from row {} by {}, {got} answered{}",
            if told.acts { done(told.action) } else { "not acted on" },
            grouped(told.row),
            told.detector,
            later(", ", attack.seconds_later)
        ),
        (None, None, Some(told)) => {
            format!("told of from row {} by {}, {got} answered", grouped(told.row), told.detector)
        }
        (None, None, None) => "never noticed".to_owned(),
    }
}

/// By how much degraded answers came later together, behind `sign`.
fn later(sign: &str, seconds: f64) -> String {
    if seconds > 0.0 { format!("{sign}{} later", span(seconds)) } else { String::new() }
}

fn done(action: Action) -> &'static str {
    Outcome::of(action).as_str()
}

/// What is done to a client and when, in a few words.
pub fn client(verdict: &ClientVerdict) -> String {
    let by = verdict.decisive().map(|told| format!(" by {}", told.detector)).unwrap_or_default();
    let after = verdict.answered_before_decision;
    let after = after.map(|answered| format!(" after {}", counted(answered, "answered request")));
    let after = after.unwrap_or_default();
    let refused = match verdict.refused {
        0 => String::new(),
        refused => format!("; {} refused", grouped(refused)),
    };
    let refused = refused + &later("; ", verdict.seconds_later);
    match (&verdict.decision, verdict.outcome) {
        (Some(told), Outcome::WouldAct) => {
            format!("{} decided{by}{after}, but not acted on{refused}", told.action.as_str())
        }
        (_, outcome) => format!("{}{by}{after}{refused}", outcome.as_str()),
    }
}

/// A mode's word.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([1, 999, 1_000, 1_234_567].map(grouped), ["1", "999", "1,000", "1,234,567"]);
        assert_eq!((counted(1, "row"), counted(0, "row")), ("1 row".to_owned(), "0 rows".to_owned()));
        assert_eq!(
            [0.0, 0.0004, 0.05, 0.999, 1.0].map(percent),
            ["0 %", "under 0.1 %", "5 %", "99.9 %", "100 %"]
        );
        assert_eq!([3.2, 90.0, 600.0, 90_000.0].map(span), ["3.2 s", "90 s", "10 min", "25 h"]);
    }
}
