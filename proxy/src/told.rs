//! A finding or decision told to a person: who did what, how far over the limit, what follows, and what to do next.
//!
//! It is read from a record's JSON line, so that the admin API, `checkgate explain` and a file of findings that is
//! years old all give the same page.

pub mod clean;
mod drift;

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

pub use self::clean::{clean, clean_json, replaced};
use crate::control::OPERATOR;
use crate::lapi::CROWDSEC;

/// Cells of the longest bar.
const BAR_CELLS: usize = 40;

/// A record as far as its page shows it; what an older version did not write is left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Told {
    id: String,
    time: f64,
    client: String,
    model: String,
    detector: String,
    tier: u8,
    atlas: String,
    atlas_version: String,
    owasp: Option<String>,
    /// Nothing where the statistic was no finite number.
    statistic: Option<f64>,
    limit: Option<f64>,
    window: Window,
    action: String,
    mode: String,
    decision_id: Option<String>,
    until: Option<f64>,
    fields: Vec<String>,
    requests: Vec<String>,
    rule: Option<String>,
    tenant: Option<Tenant>,
    proposed: Option<Proposed>,
    muted: Option<String>,
    explanation: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Tenant {
    name: String,
    tier: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Proposed {
    action: String,
    expires: Option<f64>,
    approves: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Window {
    rows: u64,
    requests: u64,
    seconds: f64,
    observed: f64,
}

/// What the techniques are called in MITRE ATLAS.
const TECHNIQUES: &[(&str, &str)] = &[
    ("AML.T0014", "Discover AI Model Family"),
    ("AML.T0015", "Evade AI Model"),
    ("AML.T0024", "Exfiltration via AI Inference API"),
    ("AML.T0024.000", "Infer Training Data Membership"),
    ("AML.T0024.001", "Invert AI Model"),
    ("AML.T0024.002", "Extract AI Model"),
    ("AML.T0029", "Denial of AI Service"),
    ("AML.T0034", "Cost Harvesting"),
    ("AML.T0042", "Verify Attack"),
    ("AML.T0043", "Craft Adversarial Data"),
    ("AML.T0043.001", "Craft Adversarial Data: Black-Box Optimization"),
    ("AML.T0046", "Spamming AI System with Chaff Data"),
];

/// What the technique `id` is called in MITRE ATLAS.
#[must_use]
pub fn technique_name(id: &str) -> Option<&'static str> {
    TECHNIQUES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name)
}

/// The page of the record that `line` holds.
///
/// # Errors
/// When the line is no record.
pub fn page(line: &str) -> Result<String, serde_json::Error> {
    let drift: drift::Drift = serde_json::from_str(line)?;
    if drift.kind == "drift" {
        return Ok(drift.page());
    }
    Ok(serde_json::from_str::<Told>(line)?.page())
}

/// Whether the record on `line` goes by `id`, its own or that of its decision.
#[must_use]
pub fn goes_by(line: &str, id: &str) -> bool {
    let told: Result<Told, _> = serde_json::from_str(line);
    told.is_ok_and(|told| told.id == id || told.decision_id.as_deref() == Some(id))
}

/// What a problem document (RFC 9457) says is wrong and what mends it, or the text itself where it is none.
#[must_use]
pub fn detail(problem: &str) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
        mend: String,
    }
    match serde_json::from_str::<Problem>(problem) {
        Ok(Problem { detail, mend }) => clean(&format!("{detail}; {mend}")),
        Err(_) => clean(&problem.chars().take(200).collect::<String>()),
    }
}

impl Told {
    fn page(&self) -> String {
        let mut page = String::new();
        self.write_head(&mut page);
        // What a person or another program decided rests on nothing that was measured here.
        if ![OPERATOR, CROWDSEC].contains(&self.detector.as_str()) {
            self.write_plot(&mut page);
            self.write_facts(&mut page);
        }
        self.write_next(&mut page);
        page
    }

    fn write_head(&self, page: &mut String) {
        let Self { id, detector, tier, client, model, .. } = self;
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "{id}  {detector} (tier {tier})  {}", moment(self.time));
        let _ = writeln!(page, "client {}, model {}\n", clean(client), clean(model));
        let _ = writeln!(page, "{}\n", clean(&self.explanation));
    }

    /// How far over the limit, and how much of the client's traffic could be looked into.
    fn write_plot(&self, page: &mut String) {
        let bars = [("statistic", self.statistic), ("limit", self.limit)];
        let longest = bars.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max);
        for (name, value) in bars {
            let Some(value) = value else { continue };
            let share = if longest > 0.0 { value / longest } else { 0.0 };
            let _ = writeln!(
                page,
                "  {name:<10} {:<width$} {}",
                bar(share, BAR_CELLS),
                number(value),
                width = BAR_CELLS
            );
        }
        let observed = self.window.observed;
        let percent = number((observed * 100.0).round());
        let _ = writeln!(
            page,
            "  {:<10} {:<BAR_CELLS$} {percent} % of its requests\n",
            "observed",
            bar(observed, BAR_CELLS)
        );
    }

    fn write_facts(&self, page: &mut String) {
        let Window { rows, requests, seconds, .. } = self.window;
        let mut fact = |name: &str, value: &str| {
            let _ = writeln!(page, "  {name:<10} {}", clean(value));
        };
        fact("window", &format!("{rows} distinct rows in {requests} requests within {} s", number(seconds)));
        if !self.fields.is_empty() {
            fact("fields", &self.fields.join(", "));
        }
        if !self.requests.is_empty() {
            fact("examples", &self.requests.join(", "));
        }
        if let Some(Tenant { name, tier }) = &self.tenant {
            fact("tenant", &format!("{name} of tier {tier}"));
        }
        if let Some(rule) = &self.rule {
            fact("rule", rule);
        }
        if let Some(muted) = &self.muted {
            fact("muted", muted);
        }
        fact("technique", &self.technique());
    }

    fn technique(&self) -> String {
        let name = technique_name(&self.atlas).map_or(String::new(), |name| format!(" {name}"));
        let owasp = self.owasp.as_ref().map_or(String::new(), |owasp| format!("; OWASP {owasp}"));
        format!("{}{name} (MITRE ATLAS {}){owasp}", self.atlas, self.atlas_version)
    }

    /// What was decided, and what a person can do about it.
    fn write_next(&self, page: &mut String) {
        let Some(decision) = &self.decision_id else {
            let _ = writeln!(page, "  decision   none: {}", clean(&self.action));
            return;
        };
        if let Some(proposed) = &self.proposed {
            proposed.write(page, decision);
            return;
        }
        let until = self.until.map_or(String::new(), |until| format!(" until {}", moment(until)));
        let _ = writeln!(page, "  decision   {}: {}{until}", clean(decision), clean(&self.action));
        let next = if self.mode == "observe" {
            "the model is in observe: nothing is acted on".to_owned()
        } else {
            format!("to lift it: DELETE /v1/decisions/{} on the admin listener", clean(decision))
        };
        let _ = writeln!(page, "             {next}");
    }
}

impl Proposed {
    fn write(&self, page: &mut String, decision: &str) {
        let when = match (self.approves, self.expires) {
            (Some(approves), _) => format!("approves itself {}", moment(approves)),
            (None, Some(expires)) => format!("waits for approval until {}", moment(expires)),
            (None, None) => "waits for approval".to_owned(),
        };
        let (decision, action) = (clean(decision), clean(&self.action));
        let _ = writeln!(page, "  decision   {decision}: {action} is proposed and {when}");
        let _ = writeln!(page, "             until it is approved, nothing is done");
    }
}

/// A share of `cells` as a bar, to an eighth of a cell.
#[must_use]
pub fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (cells * 8) as f64).round() as usize;
    let rest = EIGHTHS.get(eighths % 8).copied().unwrap_or_default();
    format!("{}{rest}", "█".repeat(eighths / 8))
}

/// At most four digits after the point, and none where there are none.
#[must_use]
pub fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Unix seconds as an HTTP date (RFC 9110, section 5.6.7).
#[must_use]
pub fn moment(seconds: f64) -> String {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    // Beyond the year 9999 there is no such date.
    let known = since.as_secs() < 253_402_300_800;
    httpdate::fmt_http_date(if known { SystemTime::UNIX_EPOCH + since } else { SystemTime::UNIX_EPOCH })
}

#[cfg(test)]
mod tests {
    use checkgate_detectors::facts::Time;
    use checkgate_detectors::finding::{Action, Grounds, Kind, Proposed};
    use checkgate_detectors::tenants::TenantTag;

    use super::*;
    use crate::records::{line, tests::record};
    use crate::told::clean::tests::read_back;

    #[test]
    fn a_page_tells_who_what_how_far_and_what_next() {
        let page = page(&line(&record(Kind::Finding, 7))).unwrap();
        let expected = "\
f-0000000000000007  one_field_sweep (tier 1)  Tue, 14 Nov 2023 22:13:20 GMT
client 192.0.2.7, model prices

it moved one field \"area\"\\u000aand nothing else

  statistic  ████████████████████████████████████████ 12
  limit      ████████████████████████████████████▋    11
  observed   ████████████████████████████████████████ 100 % of its requests

  window     12 distinct rows in 12 requests within 3.5 s
  fields     area
  technique  AML.T0024.002 Extract AI Model (MITRE ATLAS 5.6.0); OWASP ML05:2023
  decision   d-0000000000000007: block until Tue, 14 Nov 2023 22:23:20 GMT
             to lift it: DELETE /v1/decisions/d-0000000000000007 on the admin listener
";
        assert_eq!(page, expected);
    }

    #[test]
    fn a_page_tells_the_rule_the_tenant_and_what_was_proposed() {
        let mut record = record(Kind::Decision, 7);
        record.grounds = Grounds {
            scope: None,
            rule: Some("rule 2 of policy.rules".into()),
            tenant: Some(TenantTag { name: "acme".into(), tier: "enterprise".into() }),
            proposed: Some(Proposed {
                action: Action::Block,
                lasts: Duration::from_secs(900),
                expires: None,
                approves: Some(Time(1_700_000_600_000_000)),
            }),
            muted: Some("pricing v2".into()),
        };
        let page = page(&line(&record)).unwrap();
        for told in [
            "  tenant     acme of tier enterprise\n  rule       rule 2 of policy.rules\n  muted      pricing v2\n",
            "  decision   d-0000000000000007: block is proposed and approves itself Tue, 14 Nov 2023 22:23:20 GMT\n",
        ] {
            assert!(page.contains(told), "{page}");
        }
    }

    #[test]
    fn nothing_from_traffic_steers_a_terminal() {
        let mut record = record(Kind::Finding, 7);
        record.model = "\u{1b}[2Jprices\u{202e}".into();
        record.fields = vec!["a\nb".into()];
        let page = page(&line(&record)).unwrap();
        assert!(!page.contains(['\u{1b}', '\u{202e}']) && page.contains("a\\u000ab"), "{page}");
    }

    #[test]
    fn every_naughty_string_is_on_the_page_and_steers_nothing() {
        for text in naughty_strings::BLNS {
            let shown = page(&crate::sinks::tests::record(text)).unwrap();
            assert!(!shown.contains(|c| clean::steers(c) && c != '\n'), "{shown:?}");
            let lines: Vec<String> = shown.split('\n').map(read_back).collect();
            for line in [
                format!("client key:{text}, model {text}"),
                (*text).to_owned(),
                format!("  fields     {text}"),
            ] {
                assert!(lines.contains(&line), "{line:?} is not on the page: {shown:?}");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_and_missing_keys_leave_a_page() {
        let mut record = record(Kind::Finding, 7);
        (record.statistic, record.limit, record.until) = (f64::INFINITY, f64::NAN, None);
        assert!(page(&line(&record)).unwrap().contains("observed"));
        assert!(page("{}").unwrap().contains("none"));
        assert!(page("[1]").is_err());
    }

    #[test]
    fn a_record_goes_by_its_id_and_its_decisions() {
        let line = line(&record(Kind::Decision, 7));
        assert!(goes_by(&line, "f-0000000000000007") && goes_by(&line, "d-0000000000000007"));
        assert!(!goes_by(&line, "f-0000000000000008") && !goes_by("torn", "f-0000000000000007"));
    }

    #[test]
    fn every_detectors_technique_has_a_name() {
        for spec in checkgate_detectors::query::all() {
            assert!(TECHNIQUES.iter().any(|(id, _)| *id == spec.atlas), "{} of {}", spec.atlas, spec.name);
        }
    }
}
