//! YAML text as a tree in which every key and value knows its place.

use saphyr::{Scalar, ScalarStyle};
use saphyr_parser::{Event, Parser, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;

use crate::path::Step;
use crate::problem::Place;

/// Bytes of a document that are read; a configuration is far smaller.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Nesting that is read; the deepest setting stands at level 6.
const DEPTH_MAX: usize = 64;

/// A value with its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// What makes a text no configuration document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl Malformed {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { place: place_of(span), message: message.into() }
    }
}

impl From<ScanError> for Malformed {
    fn from(error: ScanError) -> Self {
        let mark = *error.marker();
        Self::new(Span::new(mark, mark), format!("this is not YAML: {}", error.info()))
    }
}

impl Node {
    /// The value without its places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => items.iter().map(Node::to_value).collect(),
            Kind::Mapping(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_value()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    /// Place of what `path` leads to, or of the last step that exists: an absent key is missed at its mapping.
    pub(crate) fn place(&self, path: &[Step]) -> Place {
        place_of(self.deepest(path).1)
    }

    /// Place of the key that `path` ends in, rather than of its value.
    pub(crate) fn key_place(&self, path: &[Step]) -> Place {
        let Some((Step::Key(key), parent)) = path.split_last() else {
            return self.place(path);
        };
        match self.deepest(parent).0.entry(key) {
            Some(entry) => place_of(entry.key_span),
            None => self.place(path),
        }
    }

    fn deepest(&self, path: &[Step]) -> (&Node, Span) {
        let mut reached = (self, self.span);
        for step in path {
            match reached.0.child(step) {
                Some(child) => reached = child,
                None => break,
            }
        }
        reached
    }

    /// The child with the span to show for it: a collection's own span is long, so its key stands for it.
    fn child(&self, step: &Step) -> Option<(&Node, Span)> {
        match (&self.kind, step) {
            (Kind::List(items), Step::Index(index)) => items.get(*index).map(|item| (item, item.span)),
            (Kind::Mapping(_), Step::Key(key)) => self.entry(key).map(|entry| match entry.value.kind {
                Kind::Scalar(_) if !entry.value.span.is_empty() => (&entry.value, entry.value.span),
                _ => (&entry.value, entry.key_span),
            }),
            _ => None,
        }
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }
}

/// The place of a span's first line.
pub(crate) fn place_of(span: Span) -> Place {
    let length = span.end.index().saturating_sub(span.start.index());
    Place { line: span.start.line().max(1), column: span.start.col() + 1, length }
}

/// Reads the one document in `text`; `None` where it is empty. All duplicate keys are reported at once.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, Vec<Malformed>> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let step = event.map_err(Malformed::from).and_then(|(event, span)| builder.take(event, span));
        if let Err(malformed) = step {
            builder.malformed.push(malformed);
            break;
        }
    }
    if builder.malformed.is_empty() { Ok(builder.root) } else { Err(builder.malformed) }
}

/// Builds the tree from events without recursion, so that nesting cannot exhaust the stack.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    documents: usize,
    malformed: Vec<Malformed>,
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    key: Option<(String, Span)>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Malformed> {
        match event {
            Event::DocumentStart(_) => self.begin_document(span),
            Event::Scalar(text, style, anchor, tag) => {
                refuse_anchor(anchor, span)?;
                self.add_scalar(text, style, tag.as_ref(), span)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Kind::List(Vec::new()), anchor, tag.as_deref(), span)
            }
            Event::MappingStart(anchor, tag) => {
                self.open(Kind::Mapping(Vec::new()), anchor, tag.as_deref(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.add(open.node),
                None => Ok(()),
            },
            Event::Alias(_) => Err(Malformed::new(span, ALIASES_REFUSED)),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin_document(&mut self, span: Span) -> Result<(), Malformed> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(Malformed::new(span, "a second document begins here; write one document to a file"));
        }
        Ok(())
    }

    fn open(&mut self, kind: Kind, anchor: usize, tag: Option<&Tag>, span: Span) -> Result<(), Malformed> {
        refuse_anchor(anchor, span)?;
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            return Err(Malformed::new(span, TAGS_REFUSED));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Malformed::new(span, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(Open { node: Node { span, kind }, key: None });
        Ok(())
    }

    fn add_scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Cow<'_, Tag>>,
        span: Span,
    ) -> Result<(), Malformed> {
        if self.awaits_key() {
            return self.begin_entry(text.into_owned(), span);
        }
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            return Err(Malformed::new(span, TAGS_REFUSED));
        }
        let Some(scalar) = Scalar::parse_from_cow_and_metadata(text, style, tag) else {
            return Err(Malformed::new(span, "the value does not fit its tag"));
        };
        self.add(Node { span, kind: Kind::Scalar(value_of(scalar, span)?) })
    }

    fn awaits_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.key.is_none() && matches!(open.node.kind, Kind::Mapping(_)))
    }

    fn begin_entry(&mut self, key: String, span: Span) -> Result<(), Malformed> {
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        if let Some(first) = open.node.entry(&key) {
            let line = first.key_span.start.line();
            let message = format!("the key \"{key}\" stands twice; it was first given in line {line}");
            self.malformed.push(Malformed::new(span, message));
        }
        open.key = Some((key, span));
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Malformed> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Mapping(entries) => match open.key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, value: node }),
                None => return Err(Malformed::new(node.span, "a key must be plain text")),
            },
            Kind::Scalar(_) => {}
        }
        Ok(())
    }
}

const ALIASES_REFUSED: &str = "anchors and aliases are not supported; settings for all models stand at the top level, and a model repeats what differs";
const TAGS_REFUSED: &str = "tags are not supported; remove the word that begins with \"!\"";

fn refuse_anchor(anchor: usize, span: Span) -> Result<(), Malformed> {
    if anchor == 0 { Ok(()) } else { Err(Malformed::new(span, ALIASES_REFUSED)) }
}

fn value_of(scalar: Scalar<'_>, span: Span) -> Result<Value, Malformed> {
    match scalar {
        Scalar::Null => Ok(Value::Null),
        Scalar::Boolean(value) => Ok(Value::Bool(value)),
        Scalar::Integer(value) => Ok(value.into()),
        Scalar::FloatingPoint(value) => {
            Number::from_f64(value.into_inner()).map(Value::Number).ok_or_else(|| {
                Malformed::new(span, "infinities and NaN are no setting; leave the key out instead")
            })
        }
        Scalar::String(text) => Ok(Value::String(text.into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(text: &str) -> Vec<String> {
        parse(text).expect_err("must be refused").into_iter().map(|malformed| malformed.message).collect()
    }

    #[test]
    fn a_document_becomes_json() {
        let node = parse("a: 1\nb: [x, 2.5, true, ~]\nc: {d: 'on'}\n").unwrap().unwrap();
        assert_eq!(node.to_value(), json!({"a": 1, "b": ["x", 2.5, true, null], "c": {"d": "on"}}));
    }

    #[test]
    fn every_duplicate_key_is_reported_at_once() {
        let found = messages("a: 1\na: 2\nb: {c: 1, c: 2}\n");
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn what_a_configuration_never_needs_is_refused() {
        for text in
            ["a: &x 1\nb: *x\n", "a: !secret x\n", "a: 1\n---\nb: 2\n", "? [a]\n: 1\n", "a: .inf\n", "a: [\n"]
        {
            assert_eq!(messages(text).len(), 1, "{text:?}");
        }
        let flow = "[".repeat(5000);
        assert_eq!(messages(&flow).len(), 1, "nesting must be bounded");
        let block: String = (0..100).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
        assert!(messages(&block)[0].contains("nested"), "nesting must be bounded");
    }

    #[test]
    fn a_path_leads_to_its_place_and_an_absent_key_to_its_mapping() {
        let node = parse("models:\n  - name: x\n    brake: {a: 1}\n").unwrap().unwrap();
        let path = |last: &str| vec![Step::Key("models".into()), Step::Index(0), Step::Key(last.into())];
        assert_eq!(node.place(&path("name")), Place { line: 2, column: 11, length: 1 });
        assert_eq!(node.key_place(&path("name")), Place { line: 2, column: 5, length: 4 });
        assert_eq!(node.place(&path("upstream")).line, 2);
    }
}
