//! The scan: one pass over the text that writes the index.

use checkgate_detectors::facts::NotInspected;
use checkgate_detectors::processor::{Processor, Work};

use super::fours::{BEFORE, FOUR, Fours};
use super::{DEPTH_MAX, Index, Kind, Node, Number, Place};
use crate::decode::decimal;
use crate::eight::{self, EIGHT};

/// Writes what `text` holds from the byte `start` on into an empty `index`.
///
/// # Errors
/// As [`super::Document::scan`]; the index then means nothing.
pub fn scan(text: &[u8], start: usize, index: &mut Index) -> Result<(), NotInspected> {
    Scanner { text, index, open: NONE, closing: 0, depth: 0, spaced: true }.document(start)
}

/// Stands for the node of a container where none is open.
const NONE: u32 = u32::MAX;

/// Writes the index. As long as a container is open, its node leads to the one that it stands in, so that depth costs
/// no stack.
///
/// Where the scan stands is no field: functions take it as `at` and give the place that they went to, which keeps it in
/// a register.
struct Scanner<'t> {
    text: &'t [u8],
    index: &'t mut Index,
    /// The node of the innermost open container.
    open: u32,
    /// The bracket that closes it; 0 where none is open.
    closing: u8,
    /// How many containers are open: at most [`DEPTH_MAX`].
    depth: usize,
    /// Whether a space stands behind the commas between numbers, as far as is known: most writers put one behind each or
    /// behind none.
    spaced: bool,
}

impl Scanner<'_> {
    /// Each turn reads an entry and all that closes behind it.
    fn document(&mut self, start: usize) -> Result<(), NotInspected> {
        let mut at = start;
        loop {
            let depth = self.depth;
            at = self.entry(at)?;
            let mut opened = self.depth > depth;
            loop {
                let (place, byte) = next(self.text, at);
                if self.depth == 0 {
                    return if place == self.text.len() { Ok(()) } else { Err(NotInspected::Unparsable) };
                }
                if byte == self.closing {
                    self.ascend(place)?;
                    (at, opened) = (place + 1, false);
                } else if opened {
                    at = place;
                    break;
                } else if byte == b',' {
                    at = place + 1;
                    break;
                } else {
                    return Err(NotInspected::Unparsable);
                }
            }
        }
    }

    /// A value or an opening bracket, with its key where it stands in an object; in a list, several numbers.
    #[inline(always)]
    fn entry(&mut self, at: usize) -> Result<usize, NotInspected> {
        let at = if self.closing == b'}' { self.key(at)? } else { at };
        let (at, byte) = next(self.text, at);
        match byte {
            b'"' => self.string(at),
            b'{' => self.descend(at, Kind::Object, b'}'),
            b'[' => self.descend(at, Kind::Array, b']'),
            _ => self.scalar(at, byte),
        }
    }

    /// A value that begins with `byte` and is neither string nor container.
    #[inline(never)]
    fn scalar(&mut self, at: usize, byte: u8) -> Result<usize, NotInspected> {
        let rest = self.text.get(at..).unwrap_or_default();
        match byte {
            b'-' | b'0'..=b'9' if self.closing == b']' && is_number(rest) => self.run(at),
            b'n' => self.word(at, "null", Kind::Null),
            b't' => self.word(at, "true", Kind::Truth(true)),
            b'f' => self.word(at, "false", Kind::Truth(false)),
            b'N' => self.word(at, "NaN", Kind::Number),
            b'I' => self.word(at, "Infinity", Kind::Number),
            b'-' if rest.starts_with(b"-I") => self.word(at, "-Infinity", Kind::Number),
            _ => {
                let (_, length) = decimal::read(rest).ok_or(NotInspected::Unparsable)?;
                Ok(self.push(Kind::Number, at, at + length))
            }
        }
    }

    #[inline(always)]
    fn key(&mut self, at: usize) -> Result<usize, NotInspected> {
        let (at, byte) = next(self.text, at);
        if byte != b'"' {
            return Err(NotInspected::Unparsable);
        }
        let end = self.string(at)?;
        match next(self.text, end) {
            (colon, b':') => Ok(colon + 1),
            _ => Err(NotInspected::Unparsable),
        }
    }

    #[inline]
    fn descend(&mut self, at: usize, kind: Kind, closing: u8) -> Result<usize, NotInspected> {
        if self.depth == DEPTH_MAX {
            return Err(NotInspected::TooDeep);
        }
        let node = self.next_node();
        let place = Place { kind, start: offset(at), end: offset(at), next: self.open };
        self.index.nodes.push(Node::Value(place));
        (self.open, self.closing) = (node, closing);
        self.depth += 1;
        Ok(at + 1)
    }

    #[inline]
    fn ascend(&mut self, at: usize) -> Result<(), NotInspected> {
        let next = self.next_node();
        let opened = self.index.nodes.get_mut(self.open as usize);
        let Some(Node::Value(place)) = opened else { return Err(NotInspected::Unparsable) };
        place.end = offset(at + 1);
        self.open = std::mem::replace(&mut place.next, next);
        self.closing = match self.index.nodes.get(self.open as usize) {
            Some(Node::Value(Place { kind: Kind::Object, .. })) => b'}',
            Some(_) => b']',
            None => 0,
        };
        self.depth -= 1;
        Ok(())
    }

    fn word(&mut self, at: usize, word: &str, kind: Kind) -> Result<usize, NotInspected> {
        match self.text.get(at..) {
            Some(rest) if rest.starts_with(word.as_bytes()) => Ok(self.push(kind, at, at + word.len())),
            _ => Err(NotInspected::Unparsable),
        }
    }

    /// Numbers of a list, up to the last one that follows a number. Most of the time that a body takes goes by here, in
    /// two loops that the compiler keeps in registers.
    fn run(&mut self, start: usize) -> Result<usize, NotInspected> {
        let first = offset(self.index.numbers.len());
        let mut next = Some(start);
        while let Some(at) = next {
            let follows = at != start;
            if follows {
                self.spaced = self.text.get(at) == Some(&b' ');
            }
            let at = if self.spaced {
                self.short_numbers::<true>(at + usize::from(follows))
            } else {
                self.short_numbers::<false>(at)
            };
            next = self.long_numbers(at)?;
        }
        let end = offset(self.index.numbers.len());
        self.index.nodes.push(Node::Run { first, end });
        Ok(self.index.numbers.last().map_or(start, |last| last.end as usize))
    }

    /// Takes numbers from `at` on as long as they are short and stand as far from each other as `SPACED` says, and gives
    /// the place behind the last one and what follows it.
    #[inline(never)]
    fn short_numbers<const SPACED: bool>(&mut self, at: usize) -> usize {
        Processor::default().run(Short::<SPACED> { text: self.text, at, numbers: &mut self.index.numbers })
    }

    /// Takes numbers of any kind from `at` on, up to one that is as long as short ones are: others like it may follow.
    /// Gives the place behind its comma; `None` where no number follows.
    #[inline(never)]
    fn long_numbers(&mut self, mut at: usize) -> Result<Option<usize>, NotInspected> {
        loop {
            at = next(self.text, at).0;
            let rest = self.text.get(at..).unwrap_or_default();
            if !is_number(rest) {
                return Ok(None);
            }
            let (value, length) = decimal::read(rest).ok_or(NotInspected::Unparsable)?;
            let end = at + length;
            self.index.numbers.push(Number { value, start: offset(at), end: offset(end) });
            match next(self.text, end) {
                (comma, b',') => at = comma + 1,
                _ => return Ok(None),
            }
            if length <= EIGHT {
                return Ok(Some(at));
            }
        }
    }

    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<usize, NotInspected> {
        let end = pass_plain(self.text, at + 1);
        match self.text.get(end) {
            Some(b'"') => Ok(self.push(Kind::Text { escaped: false }, at, end + 1)),
            _ => self.escaped_string(at, end),
        }
    }

    /// A string that does not end at the first byte that is not plain, which stands at `end`.
    #[inline(never)]
    fn escaped_string(&mut self, at: usize, mut end: usize) -> Result<usize, NotInspected> {
        loop {
            match self.text.get(end..) {
                Some([b'"', ..]) => return Ok(self.push(Kind::Text { escaped: true }, at, end + 1)),
                Some(escape @ [b'\\', ..]) => end += escape_length(escape)?,
                _ => return Err(NotInspected::Unparsable),
            }
            end = pass_plain(self.text, end);
        }
    }

    fn next_node(&self) -> u32 {
        offset(self.index.nodes.len())
    }

    /// Writes a value that takes no more than itself, and gives its end.
    #[inline]
    fn push(&mut self, kind: Kind, start: usize, end: usize) -> usize {
        let next = self.next_node() + 1;
        self.index.nodes.push(Node::Value(Place { kind, start: offset(start), end: offset(end), next }));
        end
    }
}

/// The first place from `at` on that holds no whitespace, and its byte; 0, which is none of JSON, at the end. Mostly it
/// is the next or the one behind a space, which takes no loop.
#[inline(always)]
fn next(text: &[u8], at: usize) -> (usize, u8) {
    match text.get(at).copied() {
        Some(byte @ b'!'..) => (at, byte),
        Some(b' ') if let Some(byte @ b'!'..) = text.get(at + 1).copied() => (at + 1, byte),
        _ => {
            let at = pass_whitespace(text, at);
            (at, text.get(at).copied().unwrap_or(0))
        }
    }
}

/// Short numbers from a place on.
struct Short<'s, const SPACED: bool> {
    text: &'s [u8],
    at: usize,
    numbers: &'s mut Vec<Number>,
}

impl<const SPACED: bool, B: Fours> Work<B> for Short<'_, SPACED> {
    type Output = usize;

    /// Four at a time are tried once so many were read one by one, and after each time in vain twice as many: many lists are
    /// short, and others hold numbers of another kind.
    #[inline(always)]
    fn by(self, by: B) -> usize {
        let Self { text, mut at, numbers } = self;
        let (mut alone, mut patience) = (FOUR, FOUR);
        let gap = 1 + usize::from(SPACED);
        loop {
            if alone == 0 {
                if let Some(four) = four_from::<SPACED>(text, at, by) {
                    at = four.last().map_or(at, |last| last.end as usize + gap);
                    numbers.extend_from_slice(&four);
                    continue;
                }
                patience = patience.saturating_mul(2);
                alone = patience;
            }
            let window = text.get(at..).and_then(<[u8]>::first_chunk);
            let Some((value, length)) = window.and_then(decimal::read_short::<SPACED>) else { return at };
            numbers.push(Number { value, start: offset(at), end: offset(at + length) });
            at += length + gap;
            alone -= 1;
        }
    }
}

/// The four numbers from a place on.
#[inline(always)]
fn four_from<const SPACED: bool>(text: &[u8], at: usize, by: impl Fours) -> Option<[Number; FOUR]> {
    let start = at.checked_sub(BEFORE)?;
    let four = by.four::<SPACED>(text.get(start..)?.first_chunk()?)?;
    let mut numbers = [Number { value: 0.0, start: 0, end: 0 }; FOUR];
    for (number, (value, (first, end))) in
        numbers.iter_mut().zip(four.values.into_iter().zip(four.starts.into_iter().zip(four.ends)))
    {
        *number = Number { value, start: offset(start) + first as u32, end: offset(start) + end as u32 };
    }
    Some(numbers)
}

#[inline(never)]
fn pass_whitespace(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(|byte| is_whitespace(*byte)) {
        at += 1;
    }
    at
}

#[inline]
fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether `text` begins with a number in digits.
#[inline]
fn is_number(text: &[u8]) -> bool {
    matches!(text, [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..])
}

/// Where the first byte from `at` on stands that does not mean itself in a string: a quotation mark, a backslash, a
/// control character or the end. Most strings are short enough to need no loop.
#[inline(always)]
fn pass_plain(text: &[u8], at: usize) -> usize {
    match text.get(at..).and_then(<[u8]>::first_chunk).map(special) {
        None => pass_long_plain(text, at),
        Some(0) => pass_long_plain(text, at + EIGHT),
        Some(special) => at + eight::first(special),
    }
}

#[inline(never)]
fn pass_long_plain(text: &[u8], mut at: usize) -> usize {
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special(eight);
        if special != 0 {
            return at + eight::first(special);
        }
        at += EIGHT;
    }
    while text.get(at).is_some_and(|byte| is_plain(*byte)) {
        at += 1;
    }
    at
}

/// Flags bytes that do not mean themselves in a string.
#[inline]
fn special(eight: &[u8; EIGHT]) -> u64 {
    let bytes = u64::from_le_bytes(*eight);
    // Bit 1 turned over, the quotation mark is the one byte from 0x20 on that falls below 0x21.
    eight::below(bytes ^ eight::all(0x02), 0x21) | eight::below(bytes ^ eight::all(b'\\'), 1)
}

fn is_plain(byte: u8) -> bool {
    byte >= 0x20 && byte != b'"' && byte != b'\\'
}

fn escape_length(escape: &[u8]) -> Result<usize, NotInspected> {
    match escape {
        [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
        [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Ok(6),
        _ => Err(NotInspected::Unparsable),
    }
}

/// Offsets fit, because longer texts are refused before the scan and a value takes at least a byte.
#[inline]
fn offset(position: usize) -> u32 {
    position as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn scanned(text: &str) -> Option<Index> {
        let mut index = Index::default();
        scan(text.as_bytes(), 0, &mut index).ok().map(|()| index)
    }

    /// Numbers as lists hold them, and a few others.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => r"-?(0|[1-9][0-9]{0,2})\.[0-9]{1,4}|-?0\.[0-9]{1,6}",
            1 => r"-?(0|[1-9][0-9]{0,8})",
            1 => r"-?(0|[1-9][0-9]{0,18})\.[0-9]{1,18}([eE][-+]?[0-9]{1,3})?",
        ]
    }

    proptest! {
        #[test]
        fn numbers_of_a_list_are_read_as_one_by_one(
            numbers in prop::collection::vec(number(), 1..60),
            gap in prop_oneof![Just(","), Just(", "), Just(" ,\t")],
            others in prop::collection::vec((0..60_usize, prop_oneof![Just(","), Just(", "), Just(",\n  ")]), 0..3),
            before in "[ ]{0,9}",
        ) {
            let mut text = format!("{before}[");
            let mut expected = Vec::new();
            for (place, number) in numbers.iter().enumerate() {
                if place > 0 {
                    text.push_str(others.iter().find(|(other, _)| *other == place).map_or(gap, |(_, gap)| gap));
                }
                let (value, _) = decimal::read(number.as_bytes()).expect("a number of JSON");
                expected.push((value.to_bits(), text.len() as u32, (text.len() + number.len()) as u32));
                text.push_str(number);
            }
            text.push(']');
            let index = scanned(&text).expect("a list of JSON");
            let found: Vec<_> = index.numbers.iter().map(|number| (number.value.to_bits(), number.start, number.end)).collect();
            prop_assert_eq!(found, expected, "{}", text);
        }

        #[test]
        fn lists_of_numbers_are_taken_as_by_serde_json(
            pieces in prop::collection::vec(prop_oneof![9 => number(), 1 => r"[-+0-9.eE ]{0,9}"], 1..24),
            gap in prop_oneof![Just(","), Just(", ")],
            odd in prop::option::weighted(0.3, (any::<prop::sample::Index>(), "[-+0-9.eE, \t]")),
        ) {
            let mut text = format!("        [{}]", pieces.join(gap));
            if let Some((place, odd)) = odd {
                text.insert_str(place.index(text.len()), &odd);
            }
            let taken = serde_json::from_str::<Vec<IgnoredAny>>(&text).is_ok();
            prop_assert_eq!(scanned(&text).is_some(), taken, "{}", text);
        }

        #[test]
        fn eight_bytes_at_a_time_find_what_one_by_one_find(
            text in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e..0x24_u8, 0x5b..0x5e_u8, Just(b'a')], 0..40),
        ) {
            let one_by_one = text.iter().take_while(|byte| is_plain(**byte)).count();
            prop_assert_eq!(pass_plain(&text, 0), one_by_one);
        }
    }
}
