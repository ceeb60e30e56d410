//! Promoted references in the state folder: the JSON lines that the model learned, with its name in the first line. A
//! file's own name only keeps files apart: a model's name came from traffic.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use checkgate_detectors::reference::{Reference, Trust};
use serde::Deserialize;

/// Models whose references are kept.
pub const MODELS_MAX: usize = 256;
/// A longer file is none of ours: a learned reference has 1,500 rows at most.
const BYTES_MAX: u64 = 256 << 20;

/// Reads what is kept, by the model's name. What does not read is told, and left for the operator.
pub fn read(directory: &Path, problems: &mut Vec<String>) -> BTreeMap<String, Arc<str>> {
    let listed = match fs::read_dir(directory) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            problems.push(format!("{} cannot be read: {error}", directory.display()));
            return BTreeMap::new();
        }
    };
    let mut paths: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
    paths.sort();
    let mut promoted = BTreeMap::new();
    for path in paths.iter().take(MODELS_MAX) {
        match one(path) {
            Ok((model, text)) => _ = promoted.insert(model, text),
            Err(message) => problems.push(format!(
                "{}: {message}; what it holds is not trusted: promote the model's reference again",
                path.display()
            )),
        }
    }
    promoted
}

fn one(path: &Path) -> Result<(String, Arc<str>), String> {
    #[derive(Deserialize)]
    struct Head {
        model: String,
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| error.to_string())?;
    let head = text.lines().next().unwrap_or_default();
    let Head { model } = serde_json::from_str(head).map_err(|error| format!("its first line: {error}"))?;
    Reference::from_json_lines(&text, Trust::Trusted).map_err(|error| error.to_string())?;
    Ok((model, text.into()))
}

/// Keeps what a model learned, in the place of what was kept of it before.
///
/// # Errors
/// The disk does not take it.
pub fn write(directory: &Path, model: &str, json_lines: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let whole = directory.join(format!("{}.jsonl", super::stem(model)));
    super::replace(&whole, named(model, json_lines)?.as_bytes())
}

/// The same lines with the model's name in the first.
fn named(model: &str, json_lines: &str) -> io::Result<String> {
    let (head, rest) = json_lines.split_once('\n').unwrap_or((json_lines, ""));
    let mut head: serde_json::Map<String, serde_json::Value> = serde_json::from_str(head)?;
    head.insert("model".to_owned(), model.into());
    Ok(format!("{}\n{rest}", serde_json::to_string(&head)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = "{\"features\":[\"age\"]}\n{\"x\":[1.5],\"p\":[2.0]}\n";

    #[test]
    fn what_is_promoted_is_found_again_under_its_models_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("promoted");
        let mut problems = Vec::new();
        assert!(read(&directory, &mut problems).is_empty() && problems.is_empty(), "nothing yet");
        for model in ["a:b", "a_b", "../../etc", "\u{fc}\n", "a:b"] {
            write(&directory, model, LINES).unwrap();
        }
        let found = read(&directory, &mut problems);
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["../../etc", "a:b", "a_b", "\u{fc}\n"],
            "names that look alike as files stay apart"
        );
        assert!(problems.is_empty(), "{problems:?}");
        let rows = Reference::from_json_lines(&found["a:b"], Trust::Trusted).unwrap();
        assert_eq!((rows.rows().len(), rows.features()), (1, &["age".to_owned()][..]));
    }

    #[test]
    fn what_does_not_read_is_told_and_trusted_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x.jsonl"), "{\"model\":\"x\",\"features\":[\"a\"]}\n{\"x\":[1,2]}\n")
            .unwrap();
        fs::write(folder.path().join("y.jsonl"), LINES).unwrap();
        fs::write(folder.path().join("z.draft"), "torn").unwrap();
        let mut problems = Vec::new();
        assert!(read(folder.path(), &mut problems).is_empty());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].contains("x.jsonl: line 2") && problems[1].contains("missing field `model`"),
            "{problems:?}"
        );
    }
}
