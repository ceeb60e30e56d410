//! Where findings and decisions are sent.

use std::path::Path as FilePath;

use serde_json::{Map, Value};

use super::Check;
use super::parts::{find, names};
use crate::path::Path;
use crate::raw::{RawOnly, RawSink};
use crate::secret::{SecretSource, not_set};
use crate::settings::{Batch, Only, Sink, Spool};
use crate::words;

/// Sinks of one process.
const SINKS_MAX: usize = 32;
/// Detectors that findings name besides those of the list.
const OTHER_DETECTORS: [&str; 4] = ["output_contract", "campaign", "operator", "brake"];

impl Check<'_> {
    pub(super) fn sinks(&mut self, typed: &[RawSink]) -> Option<Vec<Sink>> {
        let list = Path::dotted("sinks");
        if typed.len() > SINKS_MAX {
            self.refuse_key(&list, format!("more than {SINKS_MAX} sinks; remove those that nobody reads"));
            return None;
        }
        let sinks: Vec<Option<Sink>> =
            typed.iter().enumerate().map(|(index, one)| self.sink(&list.index(index), one)).collect();
        let sinks: Vec<Sink> = sinks.into_iter().collect::<Option<_>>()?;
        for (index, sink) in sinks.iter().enumerate() {
            if sinks.iter().take(index).any(|earlier| earlier.name == sink.name) {
                let message = format!("\"{}\" stands twice; give each sink a name of its own", sink.name);
                self.refuse(&list.index(index).key("name"), message);
            }
        }
        Some(sinks)
    }

    fn sink(&mut self, path: &Path, typed: &RawSink) -> Option<Sink> {
        let name = self.sink_name(path, typed.name.as_deref());
        let only = self.only(&path.key("only"), typed.only.as_ref());
        let part = self.sink_part(path, &typed.part.0);
        let (batch, spool) = (typed.batch.as_ref()?, typed.spool.as_ref()?);
        Some(Sink {
            name: name?,
            part: part?,
            only: only?,
            batch: Batch {
                events: batch.events?,
                bytes: usize::try_from(batch.bytes?.0).ok()?,
                wait: batch.wait?.0,
            },
            timeout: typed.timeout?.0,
            spool: Spool { bytes: spool.bytes?.0, age: spool.age?.0 },
        })
    }

    fn sink_name(&mut self, path: &Path, typed: Option<&str>) -> Option<String> {
        let Some(name) = typed else {
            self.refuse_key(path, "a sink has a name, by which its position is kept; add \"name: ...\"");
            return None;
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let sound = (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.');
        if !sound {
            self.refuse(
                &path.key("name"),
                "a sink's name is 1 to 64 letters, digits, \".\", \"_\" or \"-\", and does not begin with \".\"",
            );
        }
        sound.then(|| name.to_owned())
    }

    fn only(&mut self, path: &Path, typed: Option<&RawOnly>) -> Option<Only> {
        let RawOnly { kinds, severity, models, detectors, modes } = typed.cloned().unwrap_or_default();
        for (key, is_empty) in [
            ("kinds", kinds.as_ref().is_some_and(Vec::is_empty)),
            ("models", models.as_ref().is_some_and(Vec::is_empty)),
            ("detectors", detectors.as_ref().is_some_and(Vec::is_empty)),
            ("modes", modes.as_ref().is_some_and(Vec::is_empty)),
        ] {
            if is_empty {
                self.refuse_key(
                    &path.key(key),
                    "an empty list lets nothing through; remove it to let all through",
                );
            }
        }
        let known: Vec<&str> =
            self.parts.detectors.iter().map(|part| part.name).chain(OTHER_DETECTORS).collect();
        for (index, name) in detectors.iter().flatten().enumerate() {
            if !known.contains(&name.as_str()) {
                self.refuse(&path.key("detectors").index(index), words::unknown("detector", name, &known));
            }
        }
        Some(Only { kinds, severity, models, detectors, modes })
    }

    fn sink_part(&mut self, path: &Path, typed: &Map<String, Value>) -> Option<crate::settings::Chosen> {
        let known = names(self.parts.sinks);
        let mut chosen = Vec::new();
        for (key, parameters) in typed {
            match find(self.parts.sinks, key) {
                Some(part) => chosen.push((part, parameters)),
                None => self.refuse_key(&path.key(key), words::unknown("key", key, &sink_keys(&known))),
            }
        }
        let (part, parameters) = match chosen.as_slice() {
            [one] => *one,
            // Most likely it is the one that was misspelt.
            [] if !typed.is_empty() => return None,
            [] => {
                let one_of = known.join(", ");
                self.refuse_key(path, format!("says not where to send; add one of: {one_of}"));
                return None;
            }
            [first, second, ..] => {
                let message = format!("{} stands here already; write a second sink", first.0.name);
                self.refuse_key(&path.key(second.0.name), message);
                return None;
            }
        };
        let place = path.key(part.name);
        let mut parameters = match parameters {
            Value::Object(parameters) => parameters.clone(),
            Value::Null => Map::new(),
            _ => {
                self.refuse(&place, "expected a mapping of parameters");
                return None;
            }
        };
        parameters.iter_mut().for_each(|(key, value)| self.located(&place.key(key), key, value));
        self.chosen(part, parameters, |_| place.clone())
    }

    /// Has paths of files count from the configuration's folder, and environment variables be set.
    fn located(&mut self, path: &Path, key: &str, value: &mut Value) {
        match value {
            Value::String(text) if is_file_key(key) => {
                *text = self.resolve(path, FilePath::new(text)).display().to_string();
            }
            Value::String(text) => {
                let variable = SecretSource::variable(text);
                if let Some(name) = variable.filter(|name| (self.environment)(name).is_none()) {
                    self.refuse(path, not_set(name));
                }
            }
            Value::Object(keys) => {
                keys.iter_mut().for_each(|(key, value)| self.located(&path.key(key), key, value));
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.located(&path.index(index), "", item);
                }
            }
            _ => {}
        }
    }
}

/// Whether parameters of that name are paths of files: the one rule by which they are found.
fn is_file_key(key: &str) -> bool {
    key == "file" || key.ends_with("_file")
}

fn sink_keys<'a>(parts: &[&'a str]) -> Vec<&'a str> {
    ["name", "only", "batch", "timeout", "spool"].into_iter().chain(parts.iter().copied()).collect()
}
