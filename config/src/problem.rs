//! What is wrong with a configuration, where, and the mend.

use std::fmt;

/// One thing that is wrong with a configuration, rendered in the manner of a compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the operator named it, or `command line`.
    pub origin: String,
    /// Dotted path of the setting, such as `models[0].upstream`; empty for the document itself.
    pub setting: String,
    /// Where in the file; `None` where the setting came from a flag.
    pub place: Option<Place>,
    /// What is wrong, and the mend.
    pub message: String,
    /// The line that holds it, secrets masked; `None` where there is none to show.
    pub line: Option<String>,
}

/// A stretch of text on one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column of the first character, from 1.
    pub column: usize,
    /// Characters that the caret underlines; at least 1 is drawn.
    pub length: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = self.place else {
            return self.write_without_place(f);
        };
        write!(f, "{}:{}:{}: {}", self.origin, place.line, place.column, self.message)?;
        match &self.line {
            Some(line) => write_excerpt(f, place, line),
            None => Ok(()),
        }
    }
}

impl Problem {
    fn write_without_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.setting.is_empty() {
            write!(f, "{}: {}", self.origin, self.message)
        } else {
            write!(f, "{}: {}: {}", self.origin, self.setting, self.message)
        }
    }
}

impl std::error::Error for Problem {}

fn write_excerpt(f: &mut fmt::Formatter<'_>, place: Place, line: &str) -> fmt::Result {
    let number = place.line.to_string();
    let gutter = " ".repeat(number.len());
    // Tabs stay tabs, so that the caret stands under its character whatever their width.
    let indent: String =
        line.chars().take(place.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let visible = line.chars().count().saturating_sub(place.column - 1).max(1);
    let caret = "^".repeat(place.length.clamp(1, visible));
    write!(f, "\n{gutter} |\n{number} | {line}\n{gutter} | {indent}{caret}")
}

/// All problems, one after the other with an empty line between, for the terminal.
#[must_use]
pub fn render(problems: &[Problem]) -> String {
    let rendered: Vec<String> = problems.iter().map(Problem::to_string).collect();
    rendered.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_with_a_caret_below() {
        let problem = Problem {
            origin: "checkgate.yaml".into(),
            setting: "models[0].treshold".into(),
            place: Some(Place { line: 12, column: 5, length: 8 }),
            message: "unknown key \"treshold\"".into(),
            line: Some("    treshold: 3".into()),
        };
        let expected =
            "checkgate.yaml:12:5: unknown key \"treshold\"\n   |\n12 |     treshold: 3\n   |     ^^^^^^^^";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn a_problem_of_a_flag_names_its_setting() {
        let problem = Problem {
            origin: "command line".into(),
            setting: "listen".into(),
            place: None,
            message: "not an address".into(),
            line: None,
        };
        assert_eq!(problem.to_string(), "command line: listen: not an address");
    }
}
