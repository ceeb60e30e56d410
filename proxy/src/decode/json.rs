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
//! leaves 16 bytes a value, so that the index takes at most eight times the memory of the body.

use std::borrow::Cow;

use checkgate_detectors::facts::{Cell, NotInspected, Span};

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

/// One value or key of the document, in the order of the text.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// The node after this one and all that is inside it.
    next: u32,
}

/// A scanned document.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    nodes: Vec<Node>,
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
        let nodes = Vec::with_capacity(text.len() / VALUE_BYTES_USUAL);
        let mut scanner = Scanner { bytes: text.as_bytes(), at: start, nodes, open: Vec::new() };
        scanner.document()?;
        Ok(Self { text, nodes: scanner.nodes })
    }

    /// The outermost value; `None` only for a document that was not scanned.
    pub fn root(&self) -> Option<Value<'_>> {
        self.value(0)
    }

    fn value(&self, at: u32) -> Option<Value<'_>> {
        let node = *self.nodes.get(at as usize)?;
        Some(Value { document: self, at, node })
    }
}

/// A value inside a document.
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    at: u32,
    node: Node,
}

impl<'d> Value<'d> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.node.kind
    }

    /// Where it stands in the text, quotation marks included.
    pub fn span(self) -> Span {
        Span { start: self.node.start as usize, end: self.node.end as usize }
    }

    /// Whether it is a list or an object.
    pub fn is_container(self) -> bool {
        matches!(self.node.kind, Kind::Array | Kind::Object)
    }

    /// The elements of a list; nothing for anything else.
    pub fn elements(self) -> impl Iterator<Item = Value<'d>> {
        let mut at = if self.node.kind == Kind::Array { self.at + 1 } else { self.node.next };
        std::iter::from_fn(move || {
            let value = self.inner(at)?;
            at = value.node.next;
            Some(value)
        })
    }

    /// The members of an object; nothing for anything else.
    pub fn members(self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        let mut at = if self.node.kind == Kind::Object { self.at + 1 } else { self.node.next };
        std::iter::from_fn(move || {
            let key = self.inner(at)?;
            let value = self.inner(key.node.next)?;
            at = value.node.next;
            Some((key, value))
        })
    }

    /// Itself, or the values of a list of whatever depth, in order.
    ///
    /// # Errors
    /// An item is [`NotInspected::Shape`] where an object stands inside.
    pub fn leaves(self) -> impl Iterator<Item = Result<Value<'d>, NotInspected>> {
        let inside = (self.at..self.node.next).filter_map(|at| self.document.value(at));
        inside.filter(|value| value.node.kind != Kind::Array).map(|value| match value.node.kind {
            Kind::Object => Err(NotInspected::Shape),
            _ => Ok(value),
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
        match self.node.kind {
            Kind::Number if self.source() == "-0" => Some(0.0),
            Kind::Number => self.source().parse().ok(),
            _ => None,
        }
    }

    /// The string without marks and escapes; `None` where it is not a string.
    pub fn text(self) -> Option<Cow<'d, str>> {
        let Kind::Text { escaped } = self.node.kind else { return None };
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
        match self.node.kind {
            Kind::Null => Some(Cell::Missing),
            Kind::Truth(truth) => Some(Cell::Number(f64::from(u8::from(truth)))),
            Kind::Number => self.number().map(Cell::Number),
            Kind::Text { .. } => append(&self.text()?, text),
            Kind::Array | Kind::Object => None,
        }
    }

    fn inner(self, at: u32) -> Option<Value<'d>> {
        if at < self.node.next { self.document.value(at) } else { None }
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
struct Open {
    node: u32,
    closing: u8,
}

/// Writes the index. Open containers are kept in a list of at most [`DEPTH_MAX`], so that depth costs no stack.
struct Scanner<'t> {
    bytes: &'t [u8],
    at: usize,
    nodes: Vec<Node>,
    open: Vec<Open>,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), NotInspected> {
        let mut step = self.value()?;
        loop {
            step = match step {
                Step::Opened => self.first()?,
                Step::Complete if self.open.is_empty() => return self.finish(),
                Step::Complete => self.following()?,
            };
        }
    }

    fn finish(&mut self) -> Result<(), NotInspected> {
        self.skip_whitespace();
        if self.at == self.bytes.len() { Ok(()) } else { Err(NotInspected::Unparsable) }
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
        }
        self.value()
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
        if self.open.len() == DEPTH_MAX {
            return Err(NotInspected::TooDeep);
        }
        self.open.push(Open { node: self.next_node(), closing });
        let start = self.at;
        self.at += 1;
        self.push(kind, start);
        Ok(Step::Opened)
    }

    fn ascend(&mut self) -> Result<Step, NotInspected> {
        self.at += 1;
        let (end, next) = (offset(self.at), self.next_node());
        let opened = self.open.pop().and_then(|open| self.nodes.get_mut(open.node as usize));
        let node = opened.ok_or(NotInspected::Unparsable)?;
        (node.end, node.next) = (end, next);
        Ok(Step::Complete)
    }

    /// The bracket that closes the innermost open container.
    fn closing(&self) -> Option<u8> {
        self.open.last().map(|open| open.closing)
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
        self.take(b'-');
        let leading_zero = self.peek() == Some(b'0');
        if self.digits() == 0 || (leading_zero && self.digits_since(start) > 1) {
            return Err(NotInspected::Unparsable);
        }
        if self.take(b'.') && self.digits() == 0 {
            return Err(NotInspected::Unparsable);
        }
        if self.take(b'e') || self.take(b'E') {
            self.exponent()?;
        }
        self.push(Kind::Number, start);
        Ok(Step::Complete)
    }

    fn exponent(&mut self) -> Result<(), NotInspected> {
        if !self.take(b'+') {
            self.take(b'-');
        }
        if self.digits() == 0 { Err(NotInspected::Unparsable) } else { Ok(()) }
    }

    /// Passes digits and says how many.
    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn digits_since(&self, start: usize) -> usize {
        let sign = usize::from(self.bytes.get(start) == Some(&b'-'));
        self.at - start - sign
    }

    fn string(&mut self) -> Result<Step, NotInspected> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += self.rest().iter().take_while(|byte| is_plain(**byte)).count();
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
        let white = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.rest().iter().take_while(white).count();
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    fn next_node(&self) -> u32 {
        offset(self.nodes.len())
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let next = self.next_node() + 1;
        self.nodes.push(Node { kind, start: offset(start), end: offset(self.at), next });
    }
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

/// Offsets fit, because longer texts are refused before the scan and a value takes at least a byte.
fn offset(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
