//! Rules on gauges, as an operator writes them: `psi > 0.2 for 10m`.
//!
//! A gauge promises nothing about false alarms, so no rule stands by default and none does more than tell. A rule is looked
//! at when the evidence is: at ticks and at the ends of stretches. It is met once the gauge of a feature, with enough
//! events in its window, has kept on the wrong side of the limit for the time that it names, and over once it has been on the
//! right side for as long. The time is that of the rows, so the same rows give the same findings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gauges::{EVENTS_MIN, Pair};
use super::reference::DriftReference;
use super::state::Change;
use super::watch::Watch;
use super::{DRIFT, Kind};
use crate::facts::Time;
use crate::query::ParameterError;
use crate::severity::Severity;

/// Rules of one model.
pub const RULES_MAX: usize = 16;
/// Rows between two looks at the rules: gauges move no faster than that,
const LOOKS_EVERY_ROWS: u64 = 250;
/// or, where there are few rows, so much time in microseconds.
const LOOKS_EVERY: u64 = 60_000_000;
/// The longest time that a rule may name, in seconds: the window of the gauges is half an hour.
const FOR_MAX: u64 = 7 * 86_400;
/// The gauge whose p would cost more than all the rest; a rule asks for its distance alone.
const GAP: &str = "kolmogorov_smirnov";
/// Short names of gauges.
const SHORT: [(&str, &str); 2] = [("ks", GAP), ("js", "jensen_shannon")];

/// A rule as an operator writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaugeRule {
    /// The gauge, `>` or `<`, the limit, and for how long, such as `psi > 0.2 for 10m`. Gauges are `psi`, `kl`,
    /// `jensen_shannon` (`js`), `hellinger`, `total_variation`, `kolmogorov_smirnov` (`ks`), `wasserstein` and
    /// `chi_square`; times are in `s`, `m`, `h` or `d`. Without `for`, one look is enough.
    pub when: String,
    /// The feature that it is about; any one where none is named.
    #[serde(default)]
    pub feature: Option<String>,
    /// How grave a finding is: `low`, `medium` or `high`. It is what sinks go by; nobody is blocked for it.
    #[serde(default = "low")]
    #[schemars(with = "String")]
    pub severity: Severity,
    /// Fewest events of the window that it is asked for, at least 100.
    #[serde(default = "events_min")]
    pub events_min: u64,
}

fn low() -> Severity {
    Severity::Low
}

fn events_min() -> u64 {
    EVENTS_MIN
}

/// What `when` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The gauge's name in [`DRIFT`].
    pub gauge: &'static str,
    /// Whether values above the limit are told; otherwise those below.
    pub above: bool,
    /// The limit.
    pub limit: f64,
    /// For so long, in microseconds.
    pub lasts: u64,
}

/// What rules remember: for each rule, how long it has held or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Held {
    rules: Vec<Rule>,
    /// After how many rows, and when, they were looked at last.
    looked: (u64, Time),
}

/// One rule at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Rule {
    /// What it was made of: another one begins afresh.
    of: GaugeRule,
    /// Whether it was told as met and not as over.
    met: bool,
    /// Since when the gauge has said the other thing.
    turned: Option<Time>,
}

/// A rule that is met, or over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// [`Change::Met`] or [`Change::Unmet`].
    pub change: Change,
    /// What was asked for.
    pub rule: GaugeRule,
    /// The feature whose gauge is furthest over the limit, by its position in the reference.
    pub feature: usize,
    /// What its gauge shows.
    pub value: f64,
    /// What it would show without a change, about.
    pub expected: f64,
    /// The limit.
    pub limit: f64,
}

impl GaugeRule {
    /// What it asks for.
    ///
    /// # Errors
    /// Says what is wrong, and how a rule is written.
    pub fn read(&self) -> Result<Condition, ParameterError> {
        let wrong = |what: String| ParameterError::at("when", what);
        let like = "write a rule like `psi > 0.2 for 10m`";
        let words: Vec<&str> = self.when.split_whitespace().collect();
        let (gauge, sign, limit, lasts) = match words.as_slice() {
            [gauge, sign, limit] => (*gauge, *sign, *limit, None),
            [gauge, sign, limit, "for", lasts] => (*gauge, *sign, *limit, Some(*lasts)),
            _ => return Err(wrong(like.to_owned())),
        };
        let limit: Option<f64> = limit.parse().ok().filter(|limit: &f64| limit.is_finite() && *limit >= 0.0);
        Ok(Condition {
            gauge: known(gauge)
                .ok_or_else(|| wrong(format!("there is no gauge {gauge}; gauges are {}", names())))?,
            above: match sign {
                ">" => true,
                "<" => false,
                _ => return Err(wrong(like.to_owned())),
            },
            limit: limit.ok_or_else(|| wrong("the limit is a number, 0 or more".to_owned()))?,
            lasts: lasts
                .map_or(Some(0), span)
                .ok_or_else(|| wrong("the time is a whole number of s, m, h or d, at most 7d".to_owned()))?,
        })
    }

    /// Says what is wrong with it.
    ///
    /// # Errors
    /// As [`GaugeRule::read`], and where the events are too few.
    pub fn check(&self) -> Result<(), ParameterError> {
        if self.events_min < EVENTS_MIN {
            return Err(ParameterError::at("events_min", "must be at least 100"));
        }
        self.read().map(drop)
    }
}

/// The gauge's own name.
fn known(name: &str) -> Option<&'static str> {
    let name = SHORT.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
    let gauges = DRIFT.iter().filter(|spec| matches!(spec.kind, Kind::Gauge(_)));
    gauges.map(|spec| spec.name).find(|known| *known == name)
}

fn names() -> String {
    let gauges = DRIFT.iter().filter(|spec| matches!(spec.kind, Kind::Gauge(_)));
    gauges.map(|spec| spec.name).chain(SHORT.map(|(short, _)| short)).collect::<Vec<_>>().join(", ")
}

/// Microseconds of a time such as `10m`.
fn span(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let all = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (all <= FOR_MAX).then_some(all * 1_000_000)
}

impl Held {
    /// Rules that nothing was looked at for.
    #[must_use]
    pub fn of(rules: &[GaugeRule]) -> Self {
        let mut held = Self::default();
        held.adopt(rules);
        held
    }

    /// Goes by these rules from now on; those that are the same go on.
    pub fn adopt(&mut self, rules: &[GaugeRule]) {
        let known = std::mem::take(&mut self.rules);
        let held = |rule: &GaugeRule| {
            let same = known.iter().find(|known| known.of == *rule).cloned();
            same.unwrap_or_else(|| Rule { of: rule.clone(), met: false, turned: None })
        };
        self.rules = rules.iter().take(RULES_MAX).map(held).collect();
    }

    /// Looks at every rule, now and then; gives those that are met or over since the look before. O(rules x features).
    pub fn look(&mut self, reference: &DriftReference, watch: &Watch, now: Time) -> Vec<Told> {
        let (rows, time) = self.looked;
        let passed = now.0.saturating_sub(time.0);
        let is_due = watch.rows().saturating_sub(rows) >= LOOKS_EVERY_ROWS || passed >= LOOKS_EVERY;
        if self.rules.is_empty() || !is_due {
            return Vec::new();
        }
        self.looked = (watch.rows(), now);
        self.rules.iter_mut().filter_map(|rule| rule.look(reference, watch, now)).collect()
    }
}

impl Rule {
    fn look(&mut self, reference: &DriftReference, watch: &Watch, now: Time) -> Option<Told> {
        let condition = self.of.read().ok()?;
        let (feature, value, expected) = furthest(&self.of, &condition, reference, watch)?;
        let holds = if condition.above { value > condition.limit } else { value < condition.limit };
        if holds == self.met {
            self.turned = None;
            return None;
        }
        let turned = *self.turned.get_or_insert(now);
        if now.0.saturating_sub(turned.0) < condition.lasts {
            return None;
        }
        (self.met, self.turned) = (holds, None);
        let change = if holds { Change::Met } else { Change::Unmet };
        Some(Told { change, rule: self.of.clone(), feature, value, expected, limit: condition.limit })
    }
}

/// The feature whose gauge is furthest on the wrong side, with what it shows. Nothing where no window has enough events.
fn furthest(
    rule: &GaugeRule,
    condition: &Condition,
    reference: &DriftReference,
    watch: &Watch,
) -> Option<(usize, f64, f64)> {
    let spec = super::find(condition.gauge)?;
    let Kind::Gauge(read) = spec.kind else { return None };
    let meant = |name: &str| rule.feature.as_ref().is_none_or(|feature| feature == name);
    let pairs = reference.features().iter().zip(watch.features()).enumerate();
    let readings =
        pairs.filter(|(_, (feature, _))| meant(&feature.name)).filter_map(|(place, (feature, state))| {
            let window = state.window();
            if window.total() < rule.events_min {
                return None;
            }
            let pair = Pair { reference: &feature.counts, window: &window, bins: &feature.bins };
            let reading = if spec.name == GAP { pair.largest_gap() } else { read(&pair)? };
            reading.value.is_finite().then_some((place, reading.value, reading.expected))
        });
    let order =
        |one: f64, other: f64| if condition.above { one.total_cmp(&other) } else { other.total_cmp(&one) };
    readings.max_by(|one, other| order(one.1, other.1).then(other.0.cmp(&one.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(when: &str) -> GaugeRule {
        GaugeRule { when: when.into(), feature: None, severity: Severity::Low, events_min: EVENTS_MIN }
    }

    #[test]
    fn a_rule_reads_as_it_is_written_or_says_how() {
        let read = rule("psi > 0.2 for 10m").read().unwrap();
        assert_eq!(read, Condition { gauge: "psi", above: true, limit: 0.2, lasts: 600_000_000 });
        let short = rule("ks < 0.05").read().unwrap();
        assert_eq!((short.gauge, short.above, short.lasts), ("kolmogorov_smirnov", false, 0));
        for (wrong, told) in [
            ("psi", "like `psi > 0.2 for 10m`"),
            ("psi = 0.2", "like"),
            ("adwin > 1", "no gauge adwin"),
            ("psi > x", "a number"),
            ("psi > -1", "0 or more"),
            ("psi > 1 for 8d", "at most 7d"),
            ("psi > 1 for ever", "whole number"),
            ("psi > 1 for \u{fc}", "whole number"),
        ] {
            let error = rule(wrong).read().unwrap_err().to_string();
            assert!(error.contains(told), "{wrong}: {error}");
        }
        assert!(GaugeRule { events_min: 99, ..rule("psi > 1") }.check().is_err());
    }
}
