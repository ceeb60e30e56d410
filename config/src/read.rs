//! From text and flags to checked settings.

use serde_json::{Map, Value};

use crate::check;
use crate::defaults;
use crate::files;
use crate::parts::Parts;
use crate::path::Path;
use crate::problem::{Place, Problem};
use crate::raw::Raw;
use crate::settings::Settings;
use crate::source::Source;
use crate::tree::{self, DOCUMENT_BYTES_MAX};
use crate::words;

/// Problems reported at once; an operator mends a few and asks again.
const PROBLEMS_MAX: usize = 50;

/// What was typed, with the place of every word of it. Flags may be laid over it before it is checked.
pub struct Document {
    typed: Value,
    source: Source,
}

/// Reads and checks the configuration `text` of the file `origin`, whose folder relative paths count from.
///
/// # Errors
/// Everything that is wrong, each with its place and its mend, in the order of the file.
pub fn read(text: &str, origin: &str, parts: &Parts<'_>) -> Result<Settings, Vec<Problem>> {
    Document::parse(text, origin)?.check(parts)
}

/// Checks settings that came from flags alone.
///
/// # Errors
/// Everything that is wrong, each with the setting's name and its mend.
pub fn from_raw(raw: &Raw, parts: &Parts<'_>) -> Result<Settings, Vec<Problem>> {
    let mut document = Document::empty();
    document.lay_over(raw)?;
    document.check(parts)
}

impl Document {
    /// A document in which nothing was typed: the defaults, to lay flags over.
    #[must_use]
    pub fn empty() -> Self {
        Self { typed: Value::Object(Map::new()), source: Source::command_line() }
    }

    /// Reads the configuration `file`.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn open(file: &std::path::Path) -> Result<Self, Vec<Problem>> {
        let origin = file.display().to_string();
        match files::document(file, DOCUMENT_BYTES_MAX) {
            Ok(text) => Self::parse(&text, &origin),
            Err(message) => Err(vec![Source::file(&origin, "", None).unplaced_problem(message)]),
        }
    }

    /// Reads `text` and finds unknown keys and values of the wrong kind, all of them at once.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Vec<Problem>> {
        let unread = Source::file(origin, text, None);
        let refuse = |place, message: &str| vec![unread.text_problem(place, message)];
        let start = Place { line: 1, column: 1, length: 1 };
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(refuse(start, "longer than 4 MiB; this is no configuration file"));
        }
        let tree = tree::parse(text).map_err(|malformed| -> Vec<Problem> {
            malformed.into_iter().map(|one| unread.text_problem(one.place, one.message)).collect()
        })?;
        let Some(tree) = tree.filter(|tree| !tree.to_value().is_null()) else {
            return Err(refuse(
                start,
                "the file is empty; the least it needs is \"upstream: http://host:port\"",
            ));
        };
        let typed = tree.to_value();
        if !typed.is_object() {
            let message =
                "expected settings such as \"upstream: http://host:port\", found a list or a single word";
            return Err(refuse(tree.place(&[]), message));
        }
        let document = Self { typed, source: Source::file(origin, text, Some(tree)) };
        let problems = document.misshapen();
        if problems.is_empty() { Ok(document) } else { Err(problems) }
    }

    /// Lays the settings of `flags` over what was typed: single values win over the file's, list items are added to
    /// the file's, and a model of a known name changes that model.
    ///
    /// # Errors
    /// A path that is no Unicode text.
    pub fn lay_over(&mut self, flags: &Raw) -> Result<(), Vec<Problem>> {
        let flags = serde_json::to_value(flags).map_err(|error| {
            vec![Source::command_line().value_problem(&Path::top(), words::plain(&error.to_string()))]
        })?;
        lay_flags(&mut self.typed, &flags, &Path::top(), &mut self.source);
        Ok(())
    }

    /// What was typed as settings; secrets masked in its debug form.
    ///
    /// # Errors
    /// Unknown keys and values of the wrong kind.
    pub fn raw(&self) -> Result<Raw, Vec<Problem>> {
        deserialise(&self.typed).map_err(|error| vec![self.shape_problem(&error)])
    }

    /// Checks everything, at once where one mistake does not hide another.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    pub fn check(&self, parts: &Parts<'_>) -> Result<Settings, Vec<Problem>> {
        self.check_in(parts, &|name| std::env::var(name).ok())
    }

    /// [`check`](Self::check) with the environment as an argument.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn check_in(
        &self,
        parts: &Parts<'_>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Settings, Vec<Problem>> {
        let mut whole = self.typed.clone();
        defaults::fill_in(&mut whole);
        let raw: Raw = deserialise(&whole).map_err(|error| vec![self.shape_problem(&error)])?;
        let document = check::Typed { typed: &self.typed, whole: &whole, source: &self.source };
        check::settings(&raw, document, parts, environment).map_err(|mut problems| {
            problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
            problems.truncate(PROBLEMS_MAX);
            problems
        })
    }

    /// Unknown keys and values of the wrong kind. Each is cut out once it is reported, so that the next one shows.
    fn misshapen(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut rest = self.typed.clone();
        while let Err(error) = deserialise(&rest) {
            problems.push(self.shape_problem(&error));
            if problems.len() >= PROBLEMS_MAX || !Path::from(error.path()).cut(&mut rest) {
                break;
            }
        }
        problems.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
        problems
    }

    fn shape_problem(&self, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
        let path = Path::from(error.path());
        let message = error.inner().to_string();
        if path == Path::dotted("admin.token") {
            return self.source.value_problem(&path, "expected text; put quotes around it");
        }
        match words::unknown_key(&message) {
            Some(_) => self.source.key_problem(&path, words::plain(&message)),
            None => self.source.value_problem(&path, words::plain(&message)),
        }
    }
}

fn deserialise(typed: &Value) -> Result<Raw, serde_path_to_error::Error<serde_json::Error>> {
    serde_path_to_error::deserialize(typed)
}

fn lay_flags(base: &mut Value, flags: &Value, path: &Path, source: &mut Source) {
    match (base, flags) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(flags)) => {
            for (key, value) in flags.iter().filter(|(_, value)| !value.is_null()) {
                lay_flags(base.entry(key).or_insert(Value::Null), value, &path.key(key), source);
            }
        }
        (Value::Array(base), Value::Array(items)) => {
            for item in items {
                add_item(base, item, path, source);
            }
        }
        (base, flags) => {
            *base = without_nulls(flags);
            source.set_by_flag(path.clone());
        }
    }
}

/// Adds one item to a list of the file, unless it bears the name of one that stands there.
fn add_item(list: &mut Vec<Value>, item: &Value, path: &Path, source: &mut Source) {
    let same_name = |other: &Value| item.get("name").is_some() && other.get("name") == item.get("name");
    let index = list.iter().position(same_name).unwrap_or(list.len());
    if index == list.len() {
        list.push(Value::Null);
    }
    if let Some(place) = list.get_mut(index) {
        lay_flags(place, item, &path.index(index), source);
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(mapping) => {
            let kept = mapping.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}
