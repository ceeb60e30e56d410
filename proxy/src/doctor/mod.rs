//! What is wrong with an installation, and the mend: the checks of `checkgate doctor`.
//!
//! [`facts`] looks at everything once, from outside; [`CHECKS`] judge what was seen and touch nothing, so that each can be
//! tried without a machine to try it on.

mod checks;
pub mod facts;
mod render;
#[cfg(test)]
mod tests;

use serde::Serialize;

use self::facts::Facts;
pub use self::render::{json, text};

/// One thing that is looked at.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, in output and documentation.
    pub name: &'static str,
    /// What it makes of what was seen.
    judge: fn(&Facts) -> Vec<Answer>,
}

/// All checks, in the order of their output. A new one is a function in `checks.rs` and an entry here.
pub const CHECKS: &[Check] = &[
    Check { name: "config", judge: checks::config },
    Check { name: "ports", judge: checks::ports },
    Check { name: "admin", judge: checks::admin },
    Check { name: "running", judge: checks::running },
    Check { name: "upstream", judge: checks::upstream },
    Check { name: "clock", judge: checks::clock },
    Check { name: "descriptors", judge: checks::descriptors },
    Check { name: "state", judge: checks::state },
    Check { name: "references", judge: checks::references },
    Check { name: "certificates", judge: checks::certificates },
    Check { name: "outlets", judge: checks::outlets },
    Check { name: "proxies", judge: checks::proxies },
    Check { name: "identity", judge: checks::identity },
    Check { name: "never_block", judge: checks::never_block },
    Check { name: "mode", judge: checks::mode },
    Check { name: "bouncers", judge: checks::bouncers },
];

/// How grave an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check says of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Which check.
    pub check: &'static str,
    /// How grave it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Answer {
    fn ok(seen: impl Into<String>) -> Self {
        Self { check: "", verdict: Verdict::Ok, seen: seen.into(), mend: None }
    }

    fn warn(seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check: "", verdict: Verdict::Warn, seen: seen.into(), mend: Some(mend.into()) }
    }

    fn fail(seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check: "", verdict: Verdict::Fail, seen: seen.into(), mend: Some(mend.into()) }
    }
}

/// What all checks say. Where the configuration does not hold, nothing else can be looked at: `facts` is why not.
#[must_use]
pub fn examine(facts: &Result<Facts, String>) -> Vec<Answer> {
    match facts {
        Ok(facts) => CHECKS
            .iter()
            .flat_map(|check| {
                (check.judge)(facts).into_iter().map(|answer| Answer { check: check.name, ..answer })
            })
            .collect(),
        Err(why) => {
            let answer =
                Answer::fail(why.trim_end(), "correct the configuration; nothing else was looked at");
            vec![Answer { check: "config", ..answer }]
        }
    }
}

/// The gravest verdict.
#[must_use]
pub fn worst(answers: &[Answer]) -> Verdict {
    answers.iter().map(|answer| answer.verdict).max().unwrap_or(Verdict::Ok)
}
