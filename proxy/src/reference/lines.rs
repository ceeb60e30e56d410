//! JSON lines: an object a line, its keys the columns. A line may also be an exchange, as recorded streams and learned
//! references have them: `{"x": question, "p": answer, "t": seconds}`, where question and answer are lists or objects.

use std::borrow::Cow;
use std::fmt;
use std::io::BufRead;

use checkgate_detectors::drift::projection;
use checkgate_detectors::drift::reference::ANSWER;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::rows::{Given, Place, RowError, Rows};
use super::source::{Source, SourceError};

/// A longer line is no row.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A value of a line.
enum Leaf<'a> {
    Missing,
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Leaf<'a>>),
    Object(Vec<(Cow<'a, str>, Leaf<'a>)>),
}

/// Gathers the rows of a file.
///
/// # Errors
/// Names the line and the column, and says the mend.
pub fn read(source: &Source, mut input: impl BufRead, rows: &mut Rows) -> Result<(), SourceError> {
    let (mut text, mut line) = (String::new(), 0_u64);
    let mut names: Vec<String> = Vec::new();
    loop {
        text.clear();
        line += 1;
        let read = input.read_line(&mut text).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => source.at(line, "it is no UTF-8; save the file as UTF-8"),
            _ => source.failed(error),
        })?;
        if read == 0 {
            return Ok(());
        }
        let written = text.trim_start_matches('\u{feff}').trim();
        if written.is_empty() {
            continue;
        }
        if written.len() > LINE_BYTES_MAX {
            return Err(source.at(line, "the line is longer than 16 MiB; give one row a line"));
        }
        let Object(fields) = serde_json::from_str(written).map_err(|error| syntax(source, line, &error))?;
        if let Some(head) = head(&fields) {
            names = head;
            continue;
        }
        row(source, line, fields, &names, rows)?;
    }
}

fn syntax(source: &Source, line: u64, error: &serde_json::Error) -> SourceError {
    let at = error.column();
    let text = error.to_string();
    let said = text.split(" at line").next().unwrap_or(&text);
    source.at(line, format!("character {at}: {said}; give one JSON object a line"))
}

/// The names of the columns, where a line is the head of a learned reference.
fn head(fields: &[(Cow<'_, str>, Leaf<'_>)]) -> Option<Vec<String>> {
    let [(name, Leaf::List(list))] = fields else { return None };
    let text =
        |leaf: &Leaf<'_>| if let Leaf::Text(text) = leaf { Some(text.clone().into_owned()) } else { None };
    if name == "features" { list.iter().map(text).collect() } else { None }
}

fn row(
    source: &Source,
    line: u64,
    fields: Vec<(Cow<'_, str>, Leaf<'_>)>,
    names: &[String],
    rows: &mut Rows,
) -> Result<(), SourceError> {
    let is_exchange =
        fields.iter().any(|(name, leaf)| name == "x" && matches!(leaf, Leaf::List(_) | Leaf::Object(_)));
    let mut writer = Writer { source, line, rows, next: 0, timed: false };
    for (name, leaf) in fields {
        match (&*name, leaf) {
            ("x", leaf) if is_exchange => writer.part("", leaf, names)?,
            ("p", leaf) if is_exchange => writer.part(ANSWER, leaf, &[])?,
            // Who asked and in which request are no columns.
            ("c" | "r", _) if is_exchange => {}
            (name, leaf) => writer.cell(name, &leaf)?,
        }
    }
    let timed = writer.timed;
    if rows.wants_time() && !timed {
        return Err(source.row(line, &RowError::NoTime));
    }
    rows.end(1);
    Ok(())
}

/// Whether names say no more than where each column stands, as a tensor's do.
fn are_positions(names: &[String]) -> bool {
    names.iter().enumerate().all(|(place, name)| *name == place.to_string())
}

struct Writer<'a> {
    source: &'a Source,
    line: u64,
    rows: &'a mut Rows,
    /// The column that comes next where lines name their columns in the same order.
    next: usize,
    timed: bool,
}

impl Writer<'_> {
    fn part(&mut self, prefix: &str, leaf: Leaf<'_>, names: &[String]) -> Result<(), SourceError> {
        match leaf {
            Leaf::List(list) if list.len() > projection::WIDE && are_positions(names) => {
                let number = |leaf: &Leaf<'_>| match leaf {
                    Leaf::Number(number) => Some(*number),
                    _ => None,
                };
                let Some(projected) = projection::project(list.iter().map(number), list.len()) else {
                    return Ok(());
                };
                projection::names()
                    .iter()
                    .zip(projected)
                    .try_for_each(|(name, value)| self.cell(&format!("{prefix}{name}"), &Leaf::Number(value)))
            }
            Leaf::List(list) => {
                for (place, leaf) in list.iter().enumerate() {
                    let name = names.get(place).cloned().unwrap_or_else(|| place.to_string());
                    self.cell(&format!("{prefix}{name}"), leaf)?;
                }
                Ok(())
            }
            Leaf::Object(fields) => {
                fields.iter().try_for_each(|(name, leaf)| self.cell(&format!("{prefix}{name}"), leaf))
            }
            leaf => self.cell(&format!("{prefix}0"), &leaf),
        }
    }

    fn cell(&mut self, name: &str, leaf: &Leaf<'_>) -> Result<(), SourceError> {
        let (source, line) = (self.source, self.line);
        let told = |error: RowError| source.at(line, format!("column {name:?}: {error}"));
        let place = self.rows.place(name, self.next).map_err(told)?;
        let given = match leaf {
            _ if place == Place::Nowhere => return Ok(()),
            Leaf::Missing => Given::Missing,
            Leaf::Number(number) => Given::Number(*number),
            Leaf::Text(text) => Given::Text(text),
            Leaf::List(_) | Leaf::Object(_) => {
                let message = format!(
                    "column {name:?} holds a list or an object; give numbers, texts, true, false or null, or leave it \
                     out with --leave-out {name}"
                );
                return Err(source.at(line, message));
            }
        };
        match place {
            Place::Column(column) => {
                self.next = column + 1;
                self.rows.take(column, given, || format!("at {}:{line}", source.name)).map_err(told)
            }
            Place::Time => {
                self.timed = true;
                self.rows.time(given).map_err(told)
            }
            Place::Nowhere => Ok(()),
        }
    }
}

/// An object of a line.
struct Object<'a>(Vec<(Cow<'a, str>, Leaf<'a>)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a value for each column")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                fields(map).map(Object)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn fields<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<(Cow<'de, str>, Leaf<'de>)>, A::Error> {
    let mut fields = Vec::new();
    while let Some((Text(name), leaf)) = map.next_entry()? {
        fields.push((name, leaf));
    }
    Ok(fields)
}

/// A text that is borrowed where it holds no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl<'de> Deserialize<'de> for Leaf<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Leaf<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Leaf::Number(f64::from(u8::from(truth))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Leaf::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Leaf::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Leaf::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Leaf::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Leaf::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Leaf::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut leaves = Vec::new();
        while let Some(leaf) = list.next_element()? {
            leaves.push(leaf);
        }
        Ok(Leaf::List(leaves))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        fields(map).map(Leaf::Object)
    }
}
