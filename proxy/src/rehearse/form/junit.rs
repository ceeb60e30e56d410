//! JUnit XML, as every pipeline reads it: a client of whom something is told is a test case, and so is an attack.

use std::fmt::Write;

use super::escape::Escaped;
use super::words;
use crate::rehearse::Severity;
use crate::rehearse::attack::AttackVerdict;
use crate::rehearse::candidate::Candidate;
use crate::rehearse::report::{AttackRun, ClientVerdict, Report};

/// The report; a client fails at findings as grave as `fail_on`, or else at high ones. An attack never fails; one that
/// nobody notices is skipped.
pub fn write(report: &Report, fail_on: Option<Severity>) -> String {
    let fail_on = fail_on.unwrap_or(Severity::High);
    let mut file = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"checkgate rehearse\">\n",
    );
    if let Some(traffic) = &report.traffic {
        write_clients(&mut file, &traffic.verdicts, traffic.until - traffic.from, fail_on);
    }
    report.attacks.iter().for_each(|run| write_attacks(&mut file, run));
    if let Some(candidate) = &report.candidate {
        write_candidate(&mut file, candidate);
    }
    file.push_str("</testsuites>\n");
    file
}

fn write_clients(file: &mut String, verdicts: &[ClientVerdict], seconds: f64, fail_on: Severity) {
    let failures = verdicts.iter().filter(|verdict| verdict.severity >= fail_on).count();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        file,
        "  <testsuite name=\"recorded clients\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" \
         time=\"{seconds:.3}\">",
        verdicts.len()
    );
    for verdict in verdicts {
        let (told, words) = (verdict.decisive(), words::client(verdict));
        let model = told.map_or("", |told| &told.model);
        let _ = write!(
            file,
            "    <testcase name=\"{}\" classname=\"checkgate.clients.{}\" time=\"{:.3}\">",
            Escaped(&verdict.client),
            Escaped(model),
            verdict.last_request - verdict.first_request
        );
        let why = Escaped(told.map_or("", |told| &told.explanation));
        if verdict.severity >= fail_on {
            let severity = verdict.severity.as_str();
            let _ =
                write!(file, "<failure message=\"{}\" type=\"{severity}\">{why}</failure>", Escaped(&words));
        } else {
            let _ = write!(file, "<system-out>{}. {why}</system-out>", Escaped(&words));
        }
        file.push_str("</testcase>\n");
    }
    file.push_str("  </testsuite>\n");
}

fn write_candidate(file: &mut String, candidate: &Candidate) {
    let failures = usize::from(candidate.breaks > 0);
    let _ = writeln!(
        file,
        "  <testsuite name=\"candidate\" tests=\"1\" failures=\"{failures}\" errors=\"0\" skipped=\"0\" time=\"0\">"
    );
    file.push_str(
        "    <testcase name=\"its answers keep the contract\" classname=\"checkgate.candidate\" time=\"0\">",
    );
    if let Some(first) = candidate.broken.first() {
        let breaks = words::counted(candidate.breaks, "broken answer");
        let _ = write!(
            file,
            "<failure message=\"{breaks}\" type=\"high\">{}</failure>",
            Escaped(&first.explanation)
        );
    }
    file.push_str("</testcase>\n  </testsuite>\n");
}

fn write_attacks(file: &mut String, run: &AttackRun) {
    let skipped = run.attacks.iter().filter(|attack| attack.first_finding.is_none()).count();
    let _ = writeln!(
        file,
        "  <testsuite name=\"attacks in front of {}\" tests=\"{}\" failures=\"0\" errors=\"0\" skipped=\"{skipped}\" \
         time=\"0\">",
        Escaped(&run.models.join(", ")),
        run.attacks.len()
    );
    for attack in &run.attacks {
        let AttackVerdict { name, model, .. } = attack;
        let (words, model) = (words::attack(attack), Escaped(model));
        let _ = write!(
            file,
            "    <testcase name=\"{}\" classname=\"checkgate.attacks.{model}\" time=\"0\">",
            Escaped(name)
        );
        let words = Escaped(&words);
        let _ = match attack.first_finding {
            None => write!(file, "<skipped>{words}</skipped>"),
            Some(_) => write!(file, "<system-out>{words}</system-out>"),
        };
        file.push_str("</testcase>\n");
    }
    file.push_str("  </testsuite>\n");
}
