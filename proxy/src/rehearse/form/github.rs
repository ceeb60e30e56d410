//! Annotations of GitHub Actions: workflow commands on standard output.

use super::issue::{issues, place};
use super::words;
use crate::rehearse::Severity;
use crate::rehearse::report::Report;

/// GitHub shows ten annotations of each kind for a step.
const SHOWN: usize = 10;

/// The report as workflow commands, and its summary as text.
pub fn write(report: &Report) -> String {
    let place = place(report);
    let issues = issues(report);
    let mut lines: Vec<String> = Vec::new();
    for severity in Severity::ALL {
        let of_it = issues.iter().filter(|issue| issue.severity == severity);
        let commands = of_it.take(SHOWN).map(|issue| {
            format!(
                "::{} file={},line=1,title={}::{}",
                command(severity),
                property(&place),
                property(&issue.title),
                message(&issue.text)
            )
        });
        lines.extend(commands);
    }
    let rest = words::summary(report).join(" ");
    lines.push(format!("::notice title=checkgate rehearse::{}", message(&rest)));
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn command(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "notice",
    }
}

fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_traffic_begins_a_command() {
        assert_eq!(message("50 %\n::error::x\r"), "50 %25%0A::error::x%0D");
        assert_eq!(property("a,b:c"), "a%2Cb%3Ac");
    }
}
