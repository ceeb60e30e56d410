//! Folders of examples as tests: any binary can try them with its own parts in two lines.
//!
//! With `UPDATE_GOLDEN=1` in the environment, expectations are rewritten instead of compared.

use std::fs;
use std::path::{Path, PathBuf};

use crate::parts::Parts;
use crate::problem;
use crate::read::read;

/// Tries every `*.yaml` in `folder`; returns how many there were.
///
/// # Errors
/// What is wrong with those that do not pass, or a folder that cannot be read.
pub fn accepts_all(folder: &Path, parts: &Parts<'_>) -> Result<usize, String> {
    let files = documents(folder)?;
    let failures: Vec<String> =
        files.iter().filter_map(|file| problems_of(file, parts).transpose()).collect::<Result<_, _>>()?;
    if failures.is_empty() { Ok(files.len()) } else { Err(failures.join("\n\n")) }
}

/// Tries every `*.yaml` in `folder` and holds what is said of it against the `*.expected` file beside it; returns how
/// many there were.
///
/// # Errors
/// Those that pass or whose message differs, or a folder that cannot be read.
pub fn refuses_all(folder: &Path, parts: &Parts<'_>) -> Result<usize, String> {
    let files = documents(folder)?;
    let mut failures = Vec::new();
    for file in &files {
        let said = problems_of(file, parts)?.unwrap_or_else(|| "no problem found".into());
        // The folder differs from machine to machine.
        let said = said.replace(&format!("{}/", folder.display()), "");
        if let Err(difference) = equals_committed(&file.with_extension("expected"), &format!("{said}\n")) {
            failures.push(difference);
        }
    }
    if failures.is_empty() { Ok(files.len()) } else { Err(failures.join("\n\n")) }
}

/// Holds the committed `file` against `text`, which the code generates.
///
/// # Errors
/// The first line where they differ, or a file that cannot be written.
pub fn equals_committed(file: &Path, text: &str) -> Result<(), String> {
    let committed = fs::read_to_string(file).unwrap_or_default();
    if committed == text {
        return Ok(());
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()));
    }
    Err(format!(
        "{} differs from what the code says; UPDATE_GOLDEN=1 rewrites it\n{}",
        file.display(),
        first_difference(&committed, text)
    ))
}

/// The first line in which two texts differ, as committed and as the code says it.
fn first_difference(committed: &str, now: &str) -> String {
    let (mut committed, mut now) = (committed.lines(), now.lines());
    for number in 1.. {
        match (committed.next(), now.next()) {
            (Some(old), Some(new)) if old == new => {}
            (None, None) => break,
            (old, new) => {
                let (old, new) = (old.unwrap_or("(the end)"), new.unwrap_or("(the end)"));
                return format!("line {number}\n--- committed\n{old}\n--- now\n{new}");
            }
        }
    }
    "only in how lines end".to_owned()
}

fn documents(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}

fn problems_of(file: &Path, parts: &Parts<'_>) -> Result<Option<String>, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let result = read(&text, &file.display().to_string(), parts);
    Ok(result.err().map(|problems| problem::render(&problems)))
}
