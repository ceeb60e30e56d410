//! Where settings came from, so that a problem can show its line.

use std::path::{Path as FilePath, PathBuf};

use saphyr_parser::Span;
use serde_json::Value;

use crate::path::Path;
use crate::problem::{Place, Problem};
use crate::secret::SecretSource;
use crate::tree::{Kind, Node};

/// Origin of settings that came from flags.
const COMMAND_LINE: &str = "command line";

/// A configuration text with the tree that was read from it, and what flags changed in it.
#[derive(Default)]
pub(crate) struct Source {
    origin: Option<String>,
    lines: Vec<String>,
    tree: Option<Node>,
    flags: Vec<Path>,
}

impl Source {
    /// Settings without a file.
    pub(crate) fn command_line() -> Self {
        Self::default()
    }

    /// The file `origin` with its text; `tree` is absent while the text cannot be read.
    pub(crate) fn file(origin: &str, text: &str, tree: Option<Node>) -> Self {
        let mut secrets = Vec::new();
        if let Some(tree) = &tree {
            collect_secrets(tree, false, &mut secrets);
        }
        let lines = mask(text, &secrets).lines().map(str::to_owned).collect();
        Self { origin: Some(origin.into()), lines, tree, flags: Vec::new() }
    }

    /// Remembers that the setting at `path` came from a flag.
    pub(crate) fn set_by_flag(&mut self, path: Path) {
        self.flags.push(path);
    }

    /// The folder that relative paths of the setting at `path` count from.
    pub(crate) fn folder(&self, path: &Path) -> PathBuf {
        match &self.origin {
            Some(origin) if !self.is_flag(path) => {
                FilePath::new(origin).parent().map(FilePath::to_owned).unwrap_or_default()
            }
            _ => PathBuf::new(),
        }
    }

    /// A problem with the value at `path`.
    pub(crate) fn value_problem(&self, path: &Path, message: impl Into<String>) -> Problem {
        let place = self.tree_for(path).map(|tree| tree.place(&path.0));
        self.problem(path, place, message.into())
    }

    /// A problem with the key that `path` ends in.
    pub(crate) fn key_problem(&self, path: &Path, message: impl Into<String>) -> Problem {
        let place = self.tree_for(path).map(|tree| tree.key_place(&path.0));
        self.problem(path, place, message.into())
    }

    /// A problem with the text itself. No line that might hold a secret is shown.
    pub(crate) fn text_problem(&self, place: Place, message: impl Into<String>) -> Problem {
        let mut problem = self.problem(&Path::top(), Some(place), message.into());
        if self.tree.is_none() {
            problem.line =
                problem.line.filter(|line| !speaks_of_a_secret(line) && !line.to_lowercase().contains("key"));
        }
        problem
    }

    /// A problem with the file as a whole.
    pub(crate) fn unplaced_problem(&self, message: String) -> Problem {
        let origin = self.origin.as_deref().unwrap_or(COMMAND_LINE).to_owned();
        Problem { origin, setting: String::new(), place: None, message, line: None }
    }

    fn problem(&self, path: &Path, place: Option<Place>, message: String) -> Problem {
        let Some(place) = place else {
            let origin = COMMAND_LINE.to_owned();
            return Problem { origin, setting: path.to_string(), place: None, message, line: None };
        };
        let line = self.lines.get(place.line - 1).cloned();
        let origin = self.origin.as_deref().unwrap_or(COMMAND_LINE);
        let place = Some(place);
        Problem { origin: origin.into(), setting: path.to_string(), place, message, line }
    }

    fn tree_for(&self, path: &Path) -> Option<&Node> {
        self.tree.as_ref().filter(|_| !self.is_flag(path))
    }

    fn is_flag(&self, path: &Path) -> bool {
        self.flags.iter().any(|flag| path.starts_with(flag))
    }
}

/// Spans of values that may be a token or an API key: those of keys that speak of one, and unknown keys beside the
/// secret's own, because a misspelt `token` is a secret, too.
fn collect_secrets(node: &Node, secret: bool, found: &mut Vec<Span>) {
    match &node.kind {
        Kind::Scalar(_) if secret => found.push(node.span),
        Kind::Scalar(_) => {}
        Kind::List(items) => items.iter().for_each(|item| collect_secrets(item, secret, found)),
        Kind::Mapping(entries) => {
            for entry in entries {
                let secret = match entry.key.as_str() {
                    "listen" | "token_file" | "name" | "scopes" | "tls" | "certificates" | "file" => false,
                    "every" | "origins" | "decisions_max" | "blocks_per_minute" => false,
                    "throttle_as" | "degrade_as" | "ranges" | "relay" => false,
                    "sinks" => {
                        collect_sink_secrets(&entry.value, found);
                        continue;
                    }
                    key => secret || ["admin", "crowdsec"].contains(&key) || speaks_of_a_secret(key),
                };
                collect_secrets(&entry.value, secret, found);
            }
        }
    }
}

fn speaks_of_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    key.contains("token") || key.contains("secret")
}

/// Keys of a sink, at any depth, whose value is shown in messages. A misspelt one may be a secret.
const SHOWN_OF_SINKS: &[&str] = &[
    "name",
    "timeout",
    "url",
    "address",
    "format",
    "mode",
    "transport",
    "framing",
    "facility",
    "hostname",
    "app_name",
    "source",
    "index",
    "table",
    "sourcetype",
    "host",
    "body",
    "service",
    "events_url",
    "endpoint",
    "rule",
    "stream",
    "authority",
];

fn collect_sink_secrets(node: &Node, found: &mut Vec<Span>) {
    match &node.kind {
        Kind::Scalar(Value::String(text)) if SecretSource::variable(text).is_some() => {}
        Kind::Scalar(_) => found.push(node.span),
        Kind::List(items) => items.iter().for_each(|item| collect_sink_secrets(item, found)),
        Kind::Mapping(entries) => entries.iter().for_each(|entry| {
            let key = entry.key.as_str();
            let shown = SHOWN_OF_SINKS.contains(&key) || key == "file" || key.ends_with("_file");
            // Somebody may have put a password into a URL.
            let holds_user = |value: &Value| value.as_str().is_some_and(|text| text.contains('@'));
            match (&entry.value.kind, entry.key.as_str()) {
                (_, "only" | "batch" | "spool") => {}
                (Kind::Scalar(value), _) if shown && !holds_user(value) => {}
                _ => collect_sink_secrets(&entry.value, found),
            }
        }),
    }
}

/// `text` with every visible character of `secrets` replaced.
fn mask(text: &str, secrets: &[Span]) -> String {
    let masked = |(index, character): (usize, char)| {
        let secret = secrets.iter().any(|span| (span.start.index()..span.end.index()).contains(&index));
        if secret && !character.is_whitespace() { '*' } else { character }
    };
    text.chars().enumerate().map(masked).collect()
}
