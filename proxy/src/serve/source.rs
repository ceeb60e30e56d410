//! Where the settings come from: read at the start, and again at every reload.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkgate_config::{Document, Problem, Raw, Settings, problem};
use ring::digest::{Context, SHA256};
use serde_json::Value;

use crate::parts;

/// Settings whose value is the path of a file that is read.
const FILE_KEYS: [&str; 9] =
    ["reference", "reference_key", "fallback", "certificate", "key", "ca", "client_ca", "jwks", "file"];

/// Whether a setting names a file.
fn is_file_key(key: &str) -> bool {
    FILE_KEYS.contains(&key) || key.ends_with("_file")
}

/// A configuration file, if there is one, under the flags, if there are any.
#[derive(Debug)]
pub struct Source {
    /// The file.
    pub file: Option<PathBuf>,
    /// What flags say.
    pub flags: Raw,
}

/// What came of reading a source.
pub struct Reading {
    /// Every file that the settings depend on, whether or not it exists.
    pub files: Vec<PathBuf>,
    /// The settings, or all that is wrong with them.
    pub settings: anyhow::Result<Settings>,
}

impl Source {
    /// Reads and checks everything.
    pub fn read(&self) -> Reading {
        let mut files: Vec<PathBuf> = self.file.iter().cloned().collect();
        let settings = self.document().and_then(|document| {
            self.name_files(&document, &mut files);
            document.check(&parts::all())
        });
        Reading { files, settings: settings.map_err(|problems| told(&problems)) }
    }

    fn document(&self) -> Result<Document, Vec<Problem>> {
        let mut document = match &self.file {
            Some(file) => Document::open(file)?,
            None => Document::empty(),
        };
        document.lay_over(&self.flags)?;
        Ok(document)
    }

    /// A path in the file counts from the file's folder, one on the command line from the working folder; of the two
    /// that each may mean, the one that nobody meant does not exist or does not change.
    fn name_files(&self, document: &Document, files: &mut Vec<PathBuf>) {
        let typed = document.raw().ok().and_then(|raw| serde_json::to_value(raw).ok());
        let folder = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut named = Vec::new();
        collect(&typed.unwrap_or_default(), &mut named);
        files.extend(named.iter().flat_map(|path| [folder.join(path), path.clone()]));
        files.dedup();
    }
}

/// The SHA-256 of all files that can be read, with their names, in hexadecimal digits.
pub fn digest(files: &[PathBuf]) -> Arc<str> {
    let mut context = Context::new(&SHA256);
    for file in files {
        let Ok(bytes) = std::fs::read(file) else { continue };
        for part in [file.as_os_str().as_encoded_bytes(), &bytes] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
    }
    hex::encode(context.finish()).into()
}

fn collect(value: &Value, found: &mut Vec<PathBuf>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(entries) => {
            for (key, value) in entries {
                match value.as_str() {
                    Some(path) if is_file_key(key) => found.push(path.into()),
                    _ => collect(value, found),
                }
            }
        }
        _ => {}
    }
}

/// All problems as one error.
fn told(problems: &[Problem]) -> anyhow::Error {
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    anyhow::anyhow!("the configuration has {count} {noun}\n\n{}", problem::render(problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_settings_name_is_known_even_where_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("checkgate.yaml");
        let text = "upstream: http://127.0.0.1:1\nhold: answer\nmodels:\n  - name: pricing\n    reference: rows.jsonl\n\
                    \x20   contract:\n      on_violation: {fallback: price.json}\n";
        std::fs::write(&file, text).unwrap();
        let reading = Source { file: Some(file.clone()), flags: Raw::default() }.read();
        assert!(reading.settings.is_err(), "two files are missing");
        for name in [file, folder.path().join("rows.jsonl"), folder.path().join("price.json")] {
            assert!(reading.files.contains(&name), "{} is not among {:?}", name.display(), reading.files);
        }
    }
}
