//! The forms of a report.

mod drift;
pub mod escape;
mod github;
mod gitlab;
mod html;
mod issue;
mod junit;
pub mod page;
mod plot;
mod sarif;
#[cfg(test)]
pub(crate) mod tests;
mod text;
pub mod words;

use serde::Serialize;

use super::{Report, Severity};
use crate::told::clean_json;

/// In which form a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// For people, on a terminal.
    Text,
    /// Everything, as one JSON object.
    Json,
    /// For people, as one page with plots.
    Html,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for test reports.
    Junit,
    /// GitLab's code quality report.
    Gitlab,
    /// Annotations of GitHub Actions.
    Github,
}

impl Form {
    /// The report in this form; what fails in it fails from `fail_on` on.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn write(self, report: &Report, fail_on: Option<Severity>) -> anyhow::Result<String> {
        Ok(match self {
            Self::Text => text::write(report, fail_on),
            Self::Json => json(report)?,
            Self::Html => html::write(report),
            Self::Sarif => json(&sarif::write(report))?,
            Self::Junit => junit::write(report, fail_on),
            Self::Gitlab => json(&gitlab::write(report))?,
            Self::Github => github::write(report),
        })
    }
}

fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(clean_json(serde_json::to_string_pretty(value)? + "\n"))
}
