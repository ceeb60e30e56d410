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

use checkgate_detectors::facts::{Cell, NotInspected, Span};

use super::decimal;

/// Containers inside each other beyond which a document is not read.
pub const DEPTH_MAX: usize = 64;

/// Bytes of text that a value and its comma mostly take: a guess at the size of the index.
const VALUE_BYTES_USUAL: usize = 8;

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

/// A scanned document.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    nodes: Vec<Node>,
    numbers: Vec<Number>,
}

impl<'t> Document<'t> {
    /// Scans `text` from the byte `start` to its end.
    ///
    /// # Errors
    /// [`NotInspected::Unparsable`] for what Python does not read either, [`NotInspected::TooDeep`] beyond
    /// [`DEPTH_MAX`], [`NotInspected::TooLarge`] from 4 GiB on.
    pub fn scan(text: &'t str, start: usize) -> Result<Self, NotInspected> {
        if u32::try_from(text.len()).is_err() {
            return Err(NotInspected::TooLarge);
        }
        let values = text.len() / VALUE_BYTES_USUAL;
        let (nodes, numbers) = (Vec::with_capacity(values), Vec::with_capacity(values));
        let mut scanner = Scanner { text, at: start, nodes, numbers, open: [CLOSED; DEPTH_MAX], depth: 0 };
        scanner.document()?;
        Ok(Self { text, nodes: scanner.nodes, numbers: scanner.numbers })
    }

    /// The outermost value; `None` only for a document that was not scanned.
    pub fn root(&self) -> Option<Value<'_>> {
        match self.piece(0)? {
            Leaves::One(value) => Some(value),
            Leaves::Numbers(_) => None,
        }
    }

    fn piece(&self, at: u32) -> Option<Leaves<'_>> {
        match *self.nodes.get(at as usize)? {
            Node::Value(place) => Some(Leaves::One(Value { document: self, place, inside: at + 1 })),
            Node::Run { first, end } => {
                Some(Leaves::Numbers(self.numbers.get(first as usize..end as usize)?))
            }
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
        let pieces = (self.place.kind == Kind::Array).then(|| self.pieces());
        pieces.into_iter().flatten().flat_map(move |piece| {
            let (value, numbers): (_, &[Number]) = match piece {
                Leaves::One(value) => (Some(value), &[]),
                Leaves::Numbers(numbers) => (None, numbers),
            };
            value.into_iter().chain(numbers.iter().map(move |number| self.listed(*number)))
        })
    }

    /// The members of an object; nothing for anything else.
    pub fn members(self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        let mut at = if self.place.kind == Kind::Object { self.inside } else { self.place.next };
        std::iter::from_fn(move || {
            let key = self.inner(at)?;
            let value = self.inner(key.place.next)?;
            at = value.place.next;
            Some((key, value))
        })
    }

    /// Itself, or what stands in a list of whatever depth, in order.
    ///
    /// # Errors
    /// An item is [`NotInspected::Shape`] where an object stands inside.
    pub fn leaves(self) -> impl Iterator<Item = Result<Leaves<'d>, NotInspected>> {
        let is_list = self.place.kind == Kind::Array;
        let inside = if is_list { self.inside..self.place.next } else { 0..0 };
        let own = (!is_list).then_some(Leaves::One(self));
        let pieces = own.into_iter().chain(inside.filter_map(move |at| self.document.piece(at)));
        pieces.filter_map(|piece| match piece {
            Leaves::One(value) => match value.place.kind {
                Kind::Array => None,
                Kind::Object => Some(Err(NotInspected::Shape)),
                _ => Some(Ok(piece)),
            },
            Leaves::Numbers(_) => Some(Ok(piece)),
        })
    }

    /// The members under `keys`, in one pass over an object; none for anything else.
    ///
    /// # Errors
    /// [`NotInspected::DuplicateKey`] where one of `keys` stands twice.
    pub fn fields<const N: usize>(self, keys: [&str; N]) -> Result<[Option<Value<'d>>; N], NotInspected> {
        let mut fields = [None; N];
        for (key, value) in self.members() {
            let name = key.text().unwrap_or_default();
            let field = keys.iter().zip(&mut fields).find(|(wanted, _)| **wanted == name);
            let Some((_, field)) = field else { continue };
            if field.replace(value).is_some() {
                return Err(NotInspected::DuplicateKey);
            }
        }
        Ok(fields)
    }

    /// The number, in the nearest `f64`. An integer has no negative zero.
    pub fn number(self) -> Option<f64> {
        if self.place.kind != Kind::Number {
            return None;
        }
        match decimal::read(self.document.text, self.place.start as usize) {
            Some((number, _)) => Some(number),
            // NaN or an infinity.
            None => self.source().parse().ok(),
        }
    }

    /// The string without marks and escapes; `None` where it is not a string.
    pub fn text(self) -> Option<Cow<'d, str>> {
        let Kind::Text { escaped } = self.place.kind else { return None };
        let source = self.source();
        let quoted = source.get(1..source.len().saturating_sub(1))?;
        Some(if escaped { Cow::Owned(unescape(quoted)) } else { Cow::Borrowed(quoted) })
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

    /// The value at a node inside this one.
    fn inner(self, at: u32) -> Option<Value<'d>> {
        match self.document.piece(at)? {
            Leaves::One(value) if at < self.place.next => Some(value),
            _ => None,
        }
    }

    /// What stands directly inside.
    fn pieces(self) -> impl Iterator<Item = Leaves<'d>> {
        let mut at = self.inside;
        std::iter::from_fn(move || {
            let piece = if at < self.place.next { self.document.piece(at)? } else { return None };
            at = match piece {
                Leaves::One(value) => value.place.next,
                Leaves::Numbers(_) => at + 1,
            };
            Some(piece)
        })
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

/// Where the scanner stands after a value began.
enum Step {
    /// Behind an opening bracket.
    Opened,
    /// Behind a whole value.
    Complete,
}

/// A container whose closing bracket has not come yet.
#[derive(Clone, Copy)]
struct Open {
    node: u32,
    closing: u8,
}

/// Stands where no container is open.
const CLOSED: Open = Open { node: 0, closing: 0 };

/// Writes the index. Open containers are kept in a list of at most [`DEPTH_MAX`], so that depth costs no stack.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
    nodes: Vec<Node>,
    numbers: Vec<Number>,
    /// The open containers are the first `depth` of these, the innermost last.
    open: [Open; DEPTH_MAX],
    depth: usize,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), NotInspected> {
        let mut step = self.value()?;
        loop {
            step = match step {
                Step::Opened => self.first()?,
                Step::Complete if self.depth == 0 => return self.finish(),
                Step::Complete => self.following()?,
            };
        }
    }

    fn finish(&mut self) -> Result<(), NotInspected> {
        self.skip_whitespace();
        if self.at == self.text.len() { Ok(()) } else { Err(NotInspected::Unparsable) }
    }

    fn value(&mut self) -> Result<Step, NotInspected> {
        self.skip_whitespace();
        match self.peek() {
            Some(b'{') => self.descend(Kind::Object, b'}'),
            Some(b'[') => self.descend(Kind::Array, b']'),
            Some(b'"') => self.string(),
            Some(b'n') => self.word("null", Kind::Null),
            Some(b't') => self.word("true", Kind::Truth(true)),
            Some(b'f') => self.word("false", Kind::Truth(false)),
            Some(b'N') => self.word("NaN", Kind::Number),
            Some(b'I') => self.word("Infinity", Kind::Number),
            Some(b'-') if self.rest().starts_with(b"-I") => self.word("-Infinity", Kind::Number),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(NotInspected::Unparsable),
        }
    }

    /// What follows an opening bracket: the closing one, or the first value.
    fn first(&mut self) -> Result<Step, NotInspected> {
        self.skip_whitespace();
        if self.peek() == self.closing() { self.ascend() } else { self.entry() }
    }

    /// What follows a value inside a container: the closing bracket, or a comma and the next value.
    fn following(&mut self) -> Result<Step, NotInspected> {
        self.skip_whitespace();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.entry()
            }
            byte if byte == self.closing() => self.ascend(),
            _ => Err(NotInspected::Unparsable),
        }
    }

    /// A value of a list, or a key with its value.
    fn entry(&mut self) -> Result<Step, NotInspected> {
        if self.closing() == Some(b'}') {
            self.key()?;
            return self.value();
        }
        self.skip_whitespace();
        if self.is_at_number() { self.run() } else { self.value() }
    }

    fn key(&mut self) -> Result<(), NotInspected> {
        self.skip_whitespace();
        if self.peek() != Some(b'"') {
            return Err(NotInspected::Unparsable);
        }
        self.string()?;
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return Err(NotInspected::Unparsable);
        }
        self.at += 1;
        Ok(())
    }

    fn descend(&mut self, kind: Kind, closing: u8) -> Result<Step, NotInspected> {
        let node = self.next_node();
        *self.open.get_mut(self.depth).ok_or(NotInspected::TooDeep)? = Open { node, closing };
        self.depth += 1;
        let start = self.at;
        self.at += 1;
        self.push(kind, start);
        Ok(Step::Opened)
    }

    fn ascend(&mut self) -> Result<Step, NotInspected> {
        self.at += 1;
        let (end, next) = (offset(self.at), self.next_node());
        let opened = self.innermost().and_then(|open| self.nodes.get_mut(open.node as usize));
        let Some(Node::Value(place)) = opened else { return Err(NotInspected::Unparsable) };
        (place.end, place.next) = (end, next);
        self.depth -= 1;
        Ok(Step::Complete)
    }

    fn innermost(&self) -> Option<Open> {
        self.open.get(self.depth.checked_sub(1)?).copied()
    }

    /// The bracket that closes the innermost open container.
    fn closing(&self) -> Option<u8> {
        self.innermost().map(|open| open.closing)
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<Step, NotInspected> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(NotInspected::Unparsable);
        }
        let start = self.at;
        self.at += word.len();
        self.push(kind, start);
        Ok(Step::Complete)
    }

    fn number(&mut self) -> Result<Step, NotInspected> {
        let start = self.at;
        let (_, end) = decimal::read(self.text, start).ok_or(NotInspected::Unparsable)?;
        self.at = end;
        self.push(Kind::Number, start);
        Ok(Step::Complete)
    }

    /// Numbers of a list, up to the last one that follows a number.
    fn run(&mut self) -> Result<Step, NotInspected> {
        let first = offset(self.numbers.len());
        loop {
            let (value, end) = decimal::read(self.text, self.at).ok_or(NotInspected::Unparsable)?;
            self.numbers.push(Number { value, start: offset(self.at), end: offset(end) });
            self.at = end;
            if !self.passes_comma_before_number() {
                break;
            }
        }
        self.nodes.push(Node::Run { first, end: offset(self.numbers.len()) });
        Ok(Step::Complete)
    }

    fn passes_comma_before_number(&mut self) -> bool {
        let before = self.at;
        self.skip_whitespace();
        if self.take(b',') {
            self.skip_whitespace();
            if self.is_at_number() {
                return true;
            }
        }
        self.at = before;
        false
    }

    /// Whether a number in digits begins here.
    fn is_at_number(&self) -> bool {
        matches!(self.rest(), [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..])
    }

    fn string(&mut self) -> Result<Step, NotInspected> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            while self.peek().is_some_and(is_plain) {
                self.at += 1;
            }
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                _ => return Err(NotInspected::Unparsable),
            }
            escaped = true;
        }
        self.at += 1;
        self.push(Kind::Text { escaped }, start);
        Ok(Step::Complete)
    }

    fn escape(&mut self) -> Result<(), NotInspected> {
        let length = match self.rest() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => 6,
            _ => return Err(NotInspected::Unparsable),
        };
        self.at += length;
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.as_bytes().get(self.at..).unwrap_or(&[])
    }

    fn next_node(&self) -> u32 {
        offset(self.nodes.len())
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let next = self.next_node() + 1;
        self.nodes.push(Node::Value(Place { kind, start: offset(start), end: offset(self.at), next }));
    }
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Offsets fit, because longer texts are refused before the scan and a value takes at least a byte.
fn offset(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
