//! Tables of Markdown.

use std::fmt::Write as _;

/// A table under construction.
pub struct Table {
    text: String,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        let rule = columns.iter().map(|_| "---|").collect::<String>();
        Self { text: format!("| {} |\n|{rule}\n", columns.join(" | ")) }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    /// The table's text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// A value, or a dash where there is none.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The middle value; of an even number, the lower one of the two.
pub fn median(mut values: Vec<usize>) -> Option<usize> {
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// A share in percent with `digits` decimals.
pub fn percent(share: f64, digits: usize) -> String {
    format!("{:.digits$} %", share * 100.0)
}
