//! JSON as Python model servers read it: a flat index over the text, and a cursor to walk it.
//!
//! The reading follows CPython's `json` module. It takes what strict parsers refuse and Python does not: `NaN` and
//! the infinities, exponents beyond range (infinity or zero), integers of any length (as the nearest `f64`), lone
//! surrogates (as U+FFFD). It refuses what Python refuses too: trailing commas and text, comments, leading zeros,
//! raw control characters in strings.
//!
//! An own scanner and not a library's: strict parsers are blind to such bodies, and the lenient one that was tried
//! (`jiter`) fails on a lone surrogate and descends by recursion. Tensors also want random access: `data` may
//! stand before its `shape`, and the same key twice must be noticed wherever it stands. One scan without recursion
//! leaves 16 bytes a value and 16 for each run of numbers in a list, so that the index takes at most twelve times the
//! memory of the body (`[1],[1]`).
//!
//! Bodies are mostly lists of numbers: there a number is read where the scan meets it, and runs of them lie side by
//! side.

use std::borrow::Cow;
use std::ops::Range;

use checkgate_detectors::facts::{Cell, NotInspected, Span};

use super::decimal;

mod fours;
mod scan;

/// Containers inside each other beyond which a document is not read.
pub const DEPTH_MAX: usize = 64;

/// An index that grew beyond so many values or numbers, 64 KiB of each, is given back after its body.
const ENTRIES_KEPT: usize = 4096;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Truth(bool),
    /// A number, `NaN` or an infinity.
    Number,
    /// A string.
    Text {
        /// Whether a backslash stands in it.
        escaped: bool,
    },
    /// A list.
    Array,
    /// Keys and values.
    Object,
}

/// A piece of the document, in the order of the text.
#[derive(Clone, Copy, Debug)]
enum Node {
    /// A value or key.
    Value(Place),
    /// Numbers that follow each other in a list, by their positions among all that do.
    Run { first: u32, end: u32 },
}

/// Where a value or key stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    kind: Kind,
    start: u32,
    end: u32,
    /// The node after this one and all that is inside it.
    next: u32,
}

impl Place {
    /// What stands between the marks of a string.
    fn quoted(&self) -> Range<usize> {
        self.start as usize + 1..(self.end as usize).saturating_sub(1)
    }
}

/// A number in a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// The number, in the nearest `f64`.
    pub value: f64,
    start: u32,
    end: u32,
}

impl Number {
    /// Where it stands in the text.
    pub fn span(self) -> Span {
        Span { start: self.start as usize, end: self.end as usize }
    }
}

/// What a scan leaves, and the memory for the next one.
#[derive(Debug, Default)]
pub struct Index {
    nodes: Vec<Node>,
    numbers: Vec<Number>,
}

impl Index {
    /// The memory, as long as no unusual body made it large: of at most [`ENTRIES_KEPT`] values and numbers each.
    pub fn kept(self) -> Self {
        let small = self.nodes.capacity() <= ENTRIES_KEPT && self.numbers.capacity() <= ENTRIES_KEPT;
        if small { self } else { Self::default() }
    }
}

/// A scanned document.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    nodes: &'t [Node],
    numbers: &'t [Number],
}

impl<'t> Document<'t> {
    /// Scans `text` from the byte `start` to its end and writes the index anew.
    ///
    /// # Errors
    /// [`NotInspected::Unparsable`] for what Python does not read either, [`NotInspected::TooDeep`] beyond
    /// [`DEPTH_MAX`], [`NotInspected::TooLarge`] from 4 GiB on.
    pub fn scan(text: &'t str, start: usize, index: &'t mut Index) -> Result<Self, NotInspected> {
        if u32::try_from(text.len()).is_err() {
            return Err(NotInspected::TooLarge);
        }
        index.nodes.clear();
        index.numbers.clear();
        scan::scan(text.as_bytes(), start, index)?;
        Ok(Self { text, nodes: &index.nodes, numbers: &index.numbers })
    }

    /// The outermost value; `None` only for a document that was not scanned.
    pub fn root(&self) -> Option<Value<'_>> {
        self.value(0)
    }

    fn piece(&self, at: u32) -> Option<Leaves<'_>> {
        match *self.nodes.get(at as usize)? {
            Node::Value(place) => Some(Leaves::One(Value { document: self, place, inside: at + 1 })),
            Node::Run { first, end } => {
                Some(Leaves::Numbers(self.numbers.get(first as usize..end as usize)?))
            }
        }
    }

    /// Where the value or key of a node stands.
    fn place(&self, node: u32) -> Option<&Place> {
        match self.nodes.get(node as usize)? {
            Node::Value(place) => Some(place),
            Node::Run { .. } => None,
        }
    }

    fn value(&self, node: u32) -> Option<Value<'_>> {
        Some(Value { document: self, place: *self.place(node)?, inside: node + 1 })
    }

    /// The string at a place without marks and escapes.
    fn text(&self, place: &Place) -> Option<Cow<'_, str>> {
        let Kind::Text { escaped } = place.kind else { return None };
        let quoted = self.text.get(place.quoted())?;
        Some(if escaped { Cow::Owned(unescape(quoted)) } else { Cow::Borrowed(quoted) })
    }

    /// The string at a place, where it means itself; cheaper than [`Self::text`].
    fn plain(&self, place: &Place) -> Option<&[u8]> {
        match place.kind {
            Kind::Text { escaped: false } => self.text.as_bytes().get(place.quoted()),
            _ => None,
        }
    }
}

/// A value inside a document.
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    place: Place,
    /// The first node inside it; not below `place.next` where there is none.
    inside: u32,
}

/// One value, or several numbers of a list that follow each other.
#[derive(Clone, Copy, Debug)]
pub enum Leaves<'d> {
    /// Any value.
    One(Value<'d>),
    /// At least one number.
    Numbers(&'d [Number]),
}

impl Leaves<'_> {
    /// How many values these are.
    pub fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Numbers(numbers) => numbers.len(),
        }
    }
}

impl<'d> Value<'d> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.place.kind
    }

    /// Where it stands in the text, quotation marks included.
    pub fn span(self) -> Span {
        Span { start: self.place.start as usize, end: self.place.end as usize }
    }

    /// Whether it is a list or an object.
    pub fn is_container(self) -> bool {
        matches!(self.place.kind, Kind::Array | Kind::Object)
    }

    /// The elements of a list; nothing for anything else.
    pub fn elements(self) -> impl Iterator<Item = Value<'d>> {
        let mut at = if self.place.kind == Kind::Array { self.inside } else { self.place.next };
        let mut numbers: std::slice::Iter<'d, Number> = [].iter();
        std::iter::from_fn(move || {
            if let Some(number) = numbers.next() {
                return Some(self.listed(*number));
            }
            match self.inner_piece(at)? {
                Leaves::One(value) => {
                    at = value.place.next;
                    Some(value)
                }
                Leaves::Numbers(run) => {
                    at += 1;
                    numbers = run.iter();
                    numbers.next().map(|number| self.listed(*number))
                }
            }
        })
    }

    /// The members of an object; nothing for anything else.
    pub fn members(self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        let document = self.document;
        self.member_nodes().filter_map(move |(key, node)| {
            let key = Value { document, place: *key, inside: key.next };
            Some((key, document.value(node)?))
        })
    }

    /// The keys of an object and the nodes of their values.
    fn member_nodes(self) -> impl Iterator<Item = (&'d Place, u32)> {
        let mut at = if self.place.kind == Kind::Object { self.inside } else { self.place.next };
        std::iter::from_fn(move || {
            let key = if at < self.place.next { self.document.place(at)? } else { return None };
            at = self.document.place(key.next)?.next;
            Some((key, key.next))
        })
    }

    /// Itself, or what stands in a list of whatever depth, in order.
    ///
    /// # Errors
    /// An item is [`NotInspected::Shape`] where an object stands inside.
    pub fn leaves(self) -> impl Iterator<Item = Result<Leaves<'d>, NotInspected>> {
        let is_list = self.place.kind == Kind::Array;
        let mut own = (!is_list).then_some(Leaves::One(self));
        let mut inside = if is_list { self.inside..self.place.next } else { 0..0 };
        std::iter::from_fn(move || {
            loop {
                let piece = match own.take() {
                    Some(own) => own,
                    None => self.document.piece(inside.next()?)?,
                };
                match piece {
                    Leaves::One(Value { place: Place { kind: Kind::Array, .. }, .. }) => {}
                    Leaves::One(Value { place: Place { kind: Kind::Object, .. }, .. }) => {
                        return Some(Err(NotInspected::Shape));
                    }
                    leaf => return Some(Ok(leaf)),
                }
            }
        })
    }

    /// The members under `keys`, in one pass over an object; none for anything else.
    ///
    /// # Errors
    /// [`NotInspected::DuplicateKey`] where one of `keys` stands twice.
    #[inline]
    pub fn fields<const N: usize>(self, keys: [&str; N]) -> Result<[Option<Value<'d>>; N], NotInspected> {
        // By their nodes, which are smaller than values.
        let mut nodes = [None; N];
        for (key, node) in self.member_nodes() {
            let position = match self.document.plain(key) {
                Some(name) => keys.iter().position(|wanted| wanted.as_bytes() == name),
                None => {
                    self.document.text(key).and_then(|name| keys.iter().position(|wanted| **wanted == *name))
                }
            };
            let Some(field) = position.and_then(|position| nodes.get_mut(position)) else { continue };
            if field.replace(node).is_some() {
                return Err(NotInspected::DuplicateKey);
            }
        }
        Ok(nodes.map(|node| self.document.value(node?)))
    }

    /// The number, in the nearest `f64`. An integer has no negative zero.
    pub fn number(self) -> Option<f64> {
        if self.place.kind != Kind::Number {
            return None;
        }
        let source = self.source();
        match decimal::read(source.as_bytes()) {
            Some((number, _)) => Some(number),
            // NaN or an infinity.
            None => source.parse().ok(),
        }
    }

    /// The string without marks and escapes; `None` where it is not a string.
    pub fn text(self) -> Option<Cow<'d, str>> {
        self.document.text(&self.place)
    }

    /// The value as it stands in the text.
    pub fn source(self) -> &'d str {
        let Span { start, end } = self.span();
        self.document.text.get(start..end).unwrap_or("")
    }

    /// The value as a cell of a row; the text of a string is appended to `text`. `None` for a container.
    pub fn cell(self, text: &mut String) -> Option<Cell> {
        match self.place.kind {
            Kind::Null => Some(Cell::Missing),
            Kind::Truth(truth) => Some(Cell::Number(f64::from(u8::from(truth)))),
            Kind::Number => self.number().map(Cell::Number),
            Kind::Text { .. } => append(&self.text()?, text),
            Kind::Array | Kind::Object => None,
        }
    }

    /// What stands at a node inside this one.
    fn inner_piece(self, at: u32) -> Option<Leaves<'d>> {
        if at < self.place.next { self.document.piece(at) } else { None }
    }

    /// A number of this list as a value of its own.
    fn listed(self, Number { start, end, .. }: Number) -> Value<'d> {
        let place = Place { kind: Kind::Number, start, end, next: 0 };
        Value { document: self.document, place, inside: 0 }
    }
}

fn append(piece: &str, text: &mut String) -> Option<Cell> {
    let start = u32::try_from(text.len()).ok()?;
    text.push_str(piece);
    Some(Cell::Text(start, u32::try_from(text.len()).ok()?))
}

/// Replaces escapes that the scanner has checked; a surrogate without its partner becomes U+FFFD.
fn unescape(quoted: &str) -> String {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (character, length) = escaped_character(escape);
        text.push(character);
        rest = escape.get(length..).unwrap_or("");
    }
    text.push_str(rest);
    text
}

/// The character that stands behind a backslash, and how many bytes of `escape` it takes.
fn escaped_character(escape: &str) -> (char, usize) {
    match escape.as_bytes().first() {
        Some(b'b') => ('\u{8}', 1),
        Some(b'f') => ('\u{C}', 1),
        Some(b'n') => ('\n', 1),
        Some(b'r') => ('\r', 1),
        Some(b't') => ('\t', 1),
        Some(b'u') => unicode_escape(escape),
        Some(other) => (char::from(*other), 1),
        None => (char::REPLACEMENT_CHARACTER, 0),
    }
}

fn unicode_escape(escape: &str) -> (char, usize) {
    let unit = |from: usize| u16::from_str_radix(escape.get(from..from + 4)?, 16).ok();
    let first = unit(1).unwrap_or(0xFFFD);
    let partner = if escape.get(5..7) == Some("\\u") { unit(7) } else { None };
    match char::decode_utf16([first].into_iter().chain(partner)).next() {
        Some(Ok(character)) if character.len_utf16() == 2 => (character, 11),
        Some(Ok(character)) => (character, 5),
        _ => (char::REPLACEMENT_CHARACTER, 5),
    }
}
