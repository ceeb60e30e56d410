//! The files that settings name, read with a bound and refused in plain words.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// Bytes of a file that a setting names and that is read at once.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The text of a configuration file of at most `bytes_max` bytes.
pub(crate) fn document(file: &Path, bytes_max: usize) -> Result<String, String> {
    must_exist(file)?;
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(bytes_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(file, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("line {line} is not UTF-8; save the file as UTF-8")
    })
}

/// Refuses what is not a readable file.
pub(crate) fn must_exist(file: &Path) -> Result<(), String> {
    let metadata = fs::metadata(file).map_err(|error| unreadable(file, &error))?;
    if metadata.is_file() { Ok(()) } else { Err(format!("{} is no file", file.display())) }
}

/// The text of a small file.
pub(crate) fn text(file: &Path) -> Result<String, String> {
    String::from_utf8(bytes(file)?).map_err(|_| format!("{} is not UTF-8", file.display()))
}

/// The bytes of a small file.
pub(crate) fn bytes(file: &Path) -> Result<Vec<u8>, String> {
    must_exist(file)?;
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(file, &error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{} is longer than 1 MiB", file.display()));
    }
    Ok(bytes)
}

/// The JSON that stands in for an answer: a number, an array or an object.
pub(crate) fn fallback(file: &Path) -> Result<Value, String> {
    let value: Value = serde_json::from_str(&text(file)?)
        .map_err(|error| format!("{} is no JSON: {error}", file.display()))?;
    match value {
        Value::Number(_) | Value::Array(_) | Value::Object(_) => Ok(value),
        _ => Err(format!("{} must hold a number, an array or an object", file.display())),
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no file {}", file.display()),
        _ => format!("{} cannot be read: {error}", file.display()),
    }
}
