//! What an operator says of drift, and the settings that follow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::room::Settings;
use super::rules::{GaugeRule, RULES_MAX};
use super::{Early, Paging};
use crate::query::{ParameterError, Parameters};

/// Times in which a number of false alarms is granted, with how many of them a week has.
const SPANS: [(&str, f64); 5] =
    [("hour", 168.0), ("day", 7.0), ("week", 1.0), ("month", 7.0 / 30.0), ("year", 7.0 / 365.0)];

/// How drift is watched: whether the traffic of a model, or its predictions, differ from what they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DriftParameters {
    /// How often each of the two layers may be wrong, such as `1 per week` or `2 per day`. The thresholds follow from
    /// it and from the traffic.
    pub false_alarms: String,
    /// Features that are not watched: columns of questions by their names, columns of answers as `answer:NAME`,
    /// `status` and `latency`.
    pub leave_out: Vec<String>,
    /// Rows that a reference is learned from where none is named.
    pub warm_up_rows: u32,
    /// Share of the counted rows that one client may have; more of its rows are not counted. 1 counts all.
    pub share_per_client: f64,
    /// Rows without an alarm after which a warning is forgotten, and a drift may be over.
    pub cool_down_rows: u64,
    /// Rules of your own on gauges, none by default. A gauge promises nothing about false alarms, so a rule only tells: when
    /// it is met, and when it no longer is. At most 16.
    pub rules: Vec<GaugeRule>,
    /// Of the early layer, which bets event by event: fast, and right where events do not depend on one another.
    pub early: Early,
    /// Of the paging layer, which ranks stretches of traffic: slow, and right under bursts and habits.
    pub paging: Paging,
}

impl Default for DriftParameters {
    fn default() -> Self {
        let Settings { early, paging, leave_out, warm_up_rows, share_per_client, cool_down_rows, .. } =
            Settings::default();
        let false_alarms = "1 per week".to_owned();
        Self {
            false_alarms,
            leave_out,
            warm_up_rows,
            share_per_client,
            cool_down_rows,
            rules: Vec::new(),
            early,
            paging,
        }
    }
}

impl Parameters for DriftParameters {
    fn check(&self) -> Result<(), ParameterError> {
        if a_week(&self.false_alarms).is_none() {
            let wanted =
                "say how many and in what time, such as \"1 per week\", \"2 per day\" or \"1 per year\"";
            return Err(ParameterError::at("false_alarms", wanted));
        }
        if !(500..=100_000).contains(&self.warm_up_rows) {
            return Err(ParameterError::at("warm_up_rows", "must be 500 to 100000"));
        }
        if !(0.01..=1.0).contains(&self.share_per_client) {
            return Err(ParameterError::at("share_per_client", "must lie between 0.01 and 1"));
        }
        if !(100..=100_000_000).contains(&self.cool_down_rows) {
            return Err(ParameterError::at("cool_down_rows", "must be 100 to 100000000"));
        }
        if self.rules.len() > RULES_MAX {
            return Err(ParameterError::at("rules", "must be at most 16"));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            below("rules", below(&index.to_string(), rule.check()))?;
        }
        below("early", self.early.check())?;
        below("paging", self.paging.check())
    }
}

fn below(key: &str, checked: Result<(), ParameterError>) -> Result<(), ParameterError> {
    checked.map_err(|mut error| {
        error.path.insert(0, key.to_owned());
        error
    })
}

impl DriftParameters {
    /// The settings that follow; a budget that cannot be read counts as one false alarm a week.
    #[must_use]
    pub fn settings(self) -> Settings {
        Settings {
            false_alarms_a_week: a_week(&self.false_alarms).unwrap_or(1.0),
            early: self.early,
            paging: self.paging,
            leave_out: self.leave_out,
            warm_up_rows: self.warm_up_rows,
            share_per_client: self.share_per_client,
            cool_down_rows: self.cool_down_rows,
            rules: self.rules,
        }
    }
}

/// False alarms in a week, of a text such as `2 per day`; nothing where it is no such text.
#[must_use]
pub fn a_week(text: &str) -> Option<f64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [count, "per", span] = words.as_slice() else { return None };
    let count: f64 = count.parse().ok()?;
    let span = span.strip_suffix('s').unwrap_or(span);
    let (_, times) = SPANS.iter().find(|(name, _)| *name == span)?;
    (count > 0.0 && count.is_finite()).then_some(count * times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_as_it_is_said() {
        for (text, expected) in [("1 per week", 1.0), ("2 per day", 14.0), ("0.5 per hour", 84.0)] {
            assert_eq!(a_week(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "1",
            "per week",
            "0 per week",
            "-1 per day",
            "1 per blue moon",
            "many per week",
            "inf per day",
        ] {
            assert_eq!(a_week(text), None, "{text}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_room_and_mistakes_are_told_with_their_key() {
        assert_eq!(DriftParameters::default().check(), Ok(()));
        assert_eq!(DriftParameters::default().settings(), Settings::default());
        for (typed, path) in [
            (r#"{"false_alarms": "often"}"#, vec!["false_alarms"]),
            (r#"{"warm_up_rows": 10}"#, vec!["warm_up_rows"]),
            (r#"{"share_per_client": 0}"#, vec!["share_per_client"]),
            (r#"{"cool_down_rows": 1}"#, vec!["cool_down_rows"]),
            (r#"{"early": {"tick_rows": 0}}"#, vec!["early", "tick_rows"]),
            (r#"{"paging": {"stretch_rows": 1}}"#, vec!["paging", "stretch_rows"]),
        ] {
            let typed: DriftParameters = serde_json::from_str(typed).unwrap();
            assert_eq!(typed.check().unwrap_err().path, path, "{typed:?}");
        }
    }
}
