//! The answers, for people and for programs.

use std::fmt::Write;

use serde_json::json;

use super::{Answer, worst};
use crate::told::clean;

/// One answer a line, the mend below it.
#[must_use]
pub fn text(answers: &[Answer]) -> String {
    let mut page = String::new();
    for answer in answers {
        let Answer { check, verdict, seen, mend } = answer;
        for (number, line) in seen.lines().enumerate() {
            // Writing to a String cannot fail.
            let _ = match number {
                0 => writeln!(page, "{:<5} {check:<13} {}", verdict.as_str(), clean(line)),
                _ => writeln!(page, "{:<19} {}", "", clean(line)),
            };
        }
        if let Some(mend) = mend {
            let _ = writeln!(page, "{:<19} mend: {}", "", clean(mend));
        }
    }
    page
}

/// The same as one JSON object.
#[must_use]
pub fn json(answers: &[Answer]) -> String {
    format!("{:#}\n", json!({"worst": worst(answers), "answers": answers}))
}
