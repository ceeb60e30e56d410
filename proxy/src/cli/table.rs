//! Tables for people, and times as they read them.

use serde_json::Value;

use crate::told;

/// Rows under a head, each column as wide as its widest cell. What comes from traffic steers no terminal.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |row: &Vec<String>| row.iter().map(|cell| told::clean(cell)).collect::<Vec<_>>();
    let mut all = vec![head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()];
    all.extend(rows.iter().map(clean));
    let width =
        |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    all.iter().map(line).collect()
}

/// The text under `key`; empty where there is none.
#[must_use]
pub fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// The moment under `key`.
#[must_use]
pub fn moment(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_f64).map(told::moment).unwrap_or_default()
}

/// The items of the list under `key`.
pub fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// JSON over several lines, which steers no terminal.
#[must_use]
pub fn pretty(value: &Value) -> String {
    told::clean_json(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::clean::steers;
    use crate::told::clean::tests::read_back;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_steer_nothing() {
        let rows = [vec!["a".into(), "\u{1b}[2Jx".into()], vec!["bcd".into(), String::new()]];
        let shown = table(&["ID", "CLIENT"], &rows);
        let lines: Vec<_> = shown.lines().collect();
        for text in naughty_strings::BLNS {
            let shown = table(&["CLIENT"], &[vec![format!("{text}.")]]);
            let line = shown.split('\n').nth(1).unwrap();
            assert_eq!(read_back(line), format!("{text}."), "{shown:?}");
            assert!(!line.contains(steers), "{shown:?}");
        }
        assert!(lines[0] == "ID   CLIENT" && lines[2] == "bcd" && !shown.contains('\u{1b}'), "{shown}");
    }
}
