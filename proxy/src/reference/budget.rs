//! What an operator grants, in the words that it is written in: `1 per week`.

use std::fmt;
use std::str::FromStr;

/// Days of a week, and what other spans are in weeks.
const SPANS: [(&str, f64); 5] =
    [("hour", 168.0), ("day", 7.0), ("week", 1.0), ("month", 7.0 / 30.0), ("year", 7.0 / 365.0)];

/// How many false alarms each layer may raise, as `2 per day`.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// In a week, above 0.
    pub a_week: f64,
    written: String,
}

impl Default for Grant {
    fn default() -> Self {
        Self { a_week: 1.0, written: "1 per week".to_owned() }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!("{text:?} is no budget; write for example \"1 per week\", \"2 per day\", \"1 per year\"")
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [count, "per" | "a" | "each", span] = words[..] else { return Err(refused()) };
        let count: f64 = count.parse().map_err(|_| refused())?;
        let span = span.strip_suffix('s').unwrap_or(span);
        let (_, factor) = SPANS.iter().find(|(name, _)| *name == span).ok_or_else(refused)?;
        if !(count > 0.0 && count.is_finite()) {
            return Err(format!("{text:?}: a budget is above 0; without false alarms there are no alarms"));
        }
        Ok(Self { a_week: count * factor, written: format!("{count} per {span}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_read_as_it_is_said() {
        for (text, a_week) in [
            ("1 per week", 1.0),
            ("2 per day", 14.0),
            ("0.5 per hour", 84.0),
            ("3 per months", 0.7),
            ("1 a year", 7.0 / 365.0),
        ] {
            let read: Grant = text.parse().unwrap();
            assert!((read.a_week - a_week).abs() < 1e-12, "{text}: {read:?}");
        }
        for wrong in ["", "often", "0 per week", "-1 per day", "1 per blue moon", "1 per", "inf per day"] {
            assert!(wrong.parse::<Grant>().is_err(), "{wrong:?}");
        }
        assert_eq!(Grant::default(), "1 per week".parse().unwrap());
    }
}
