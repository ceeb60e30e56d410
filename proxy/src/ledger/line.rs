//! One entry as a line of the log: it verifies itself, names the line before it, and can lose its content without
//! losing its place.
//!
//! ```text
//! {"entry":N,"time":T,"by":{..},"kind":"..","digest":D,"prev":P,"hash":H,"salt":S,"body":{..}}
//! ```
//! H is the SHA-256 of everything before `,"hash"`, P the H of the line before, D the SHA-256 of salt and body. Where
//! the content was erased, `"body":null` stands in the place of salt and body; D is left, and without the salt nobody
//! can try out what it stood for.

use std::sync::Arc;

use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::DecisionId;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::entry::{By, Entry, What};

/// How every line begins, and nothing else in a line: by this a reader finds the next line behind a damaged one.
pub const PREFIX: &[u8] = b"{\"entry\":";
/// Random bytes that are hashed with a body.
pub const SALT_BYTES: usize = 16;

const HASH_KEY: &[u8] = b",\"hash\":\"";
const SALT_KEY: &[u8] = b"\",\"salt\":\"";
const BODY_KEY: &[u8] = b"\",\"body\":";
const NO_BODY: &[u8] = b"\",\"body\":null}";

/// A SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut hash = Self::default();
        hash.0.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> String {
        hex::encode(self.0)
    }

    /// The hash that `digits` write.
    #[must_use]
    pub fn read(digits: &[u8]) -> Option<Self> {
        let mut hash = Self::default();
        unhexadecimal(digits, &mut hash.0).then_some(hash)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        Self::read(digits.as_bytes()).ok_or_else(|| serde::de::Error::custom("not a hash"))
    }
}

/// The part of a line that stays for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The entry's number.
    pub entry: u64,
    /// When it happened.
    pub time: Time,
    /// At whose word, the reason aside.
    pub by: By,
    /// What kind of thing happened.
    pub kind: String,
    /// The decision that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Of salt and body.
    pub digest: Hash,
    /// Of the line before.
    pub prev: Hash,
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    why: Arc<str>,
    what: What,
}

/// A line that was read and is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What stays.
    pub header: Header,
    /// Its own hash.
    pub hash: Hash,
    /// The entry; nothing where its content was erased.
    pub entry: Option<Entry>,
}

/// Why bytes are no line.
#[derive(Clone, Debug, PartialEq)]
pub enum Broken {
    /// Nothing of it can be relied upon.
    Whole,
    /// Its content is damaged, its place in the chain is not.
    Body(Box<Header>, Hash),
}

/// The line of `entry`, with its end, and its hash.
///
/// # Errors
/// The entry cannot be written as JSON.
pub fn write(
    entry: &Entry,
    prev: Hash,
    salt: [u8; SALT_BYTES],
) -> Result<(Vec<u8>, Hash), serde_json::Error> {
    let body = serde_json::to_vec(&Body { why: Arc::clone(&entry.by.why), what: entry.what.clone() })?;
    let header = Header {
        entry: entry.number,
        time: entry.time,
        by: By { why: Arc::default(), ..entry.by.clone() },
        kind: entry.what.kind().to_owned(),
        decision: entry.what.decision(),
        digest: Hash::of(&[&salt, &body]),
        prev,
    };
    let mut line = serde_json::to_vec(&header)?;
    // The brace that closes the header closes the line instead.
    line.pop();
    let hash = Hash::of(&[&line]);
    for part in
        [HASH_KEY, hash.text().as_bytes(), SALT_KEY, hex::encode(salt).as_bytes(), BODY_KEY, &body, b"}\n"]
    {
        line.extend_from_slice(part);
    }
    Ok((line, hash))
}

/// Reads a line, without its end.
///
/// # Errors
/// It is damaged, as a whole or in its content.
pub fn read(line: &[u8]) -> Result<Line, Broken> {
    let (header, hash, rest) = read_header(line).ok_or(Broken::Whole)?;
    if rest == NO_BODY {
        return Ok(Line { header, hash, entry: None });
    }
    match read_body(rest, header.digest) {
        Some(body) => {
            let by = By { why: body.why, ..header.by.clone() };
            let entry = Entry { number: header.entry, time: header.time, by, what: body.what };
            Ok(Line { header, hash, entry: Some(entry) })
        }
        None => Err(Broken::Body(Box::new(header), hash)),
    }
}

/// The line without its content; the same where it has none.
#[must_use]
pub fn erased(line: &[u8]) -> Option<Vec<u8>> {
    let at = find(line, HASH_KEY)? + HASH_KEY.len() + 64;
    let mut short = line.get(..at)?.to_vec();
    short.extend_from_slice(NO_BODY);
    short.push(b'\n');
    Some(short)
}

fn read_header(line: &[u8]) -> Option<(Header, Hash, &[u8])> {
    if !line.starts_with(PREFIX) {
        return None;
    }
    let end = find(line, HASH_KEY)?;
    let (head, rest) = line.split_at_checked(end)?;
    let (digits, rest) = rest.get(HASH_KEY.len()..)?.split_at_checked(64)?;
    let hash = Hash::read(digits)?;
    if Hash::of(&[head]) != hash {
        return None;
    }
    let mut json = head.to_vec();
    json.push(b'}');
    Some((serde_json::from_slice(&json).ok()?, hash, rest))
}

fn read_body(rest: &[u8], digest: Hash) -> Option<Body> {
    let (digits, rest) = rest.strip_prefix(SALT_KEY)?.split_at_checked(SALT_BYTES * 2)?;
    let mut salt = [0; SALT_BYTES];
    if !unhexadecimal(digits, &mut salt) {
        return None;
    }
    let body = rest.strip_prefix(BODY_KEY)?.strip_suffix(b"}")?;
    if Hash::of(&[&salt, body]) != digest {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// Where `wanted` stands first.
#[must_use]
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        if bytes.get(from + at..)?.starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Fills `bytes` from small hexadecimal digits; says whether these were just as many.
fn unhexadecimal(digits: &[u8], bytes: &mut [u8]) -> bool {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    let read = |(byte, [high, low]): (&mut u8, &[u8; 2])| match (value(*high), value(*low)) {
        (Some(high), Some(low)) => {
            *byte = high << 4 | low;
            true
        }
        _ => false,
    };
    rest.is_empty() && pairs.len() == bytes.len() && bytes.iter_mut().zip(pairs).all(read)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use checkgate_detectors::finding::Action;
    use checkgate_detectors::identity::{Address, Identity};
    use proptest::prelude::*;

    use super::*;
    use crate::ledger::entry::{Decided, Status};

    /// A decision to test with.
    pub fn decided(id: u64) -> Decided {
        Decided {
            id: DecisionId(id),
            client: client(id),
            model: Some("prices".into()),
            scope: checkgate_detectors::finding::Scope::Everywhere,
            detector: "one_field_sweep".into(),
            action: Action::Block,
            time: Time(1_000_000 * id),
            until: Time(1_000_000 * id + 900_000_000),
            lasts: Duration::from_secs(900),
            status: Status::InForce,
            held_back: None,
            approves_itself: None,
            tenant: None,
            requests: 0,
            asked: None,
            evidence: format!("{{\"client\":\"{}\",\"why\":\"it {{\\\"entry\\\":1\"}}", client(id)).into(),
        }
    }

    /// A client to test with.
    pub fn client(id: u64) -> Identity {
        Identity::Address(Address::of(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + id as u32))))
    }

    /// An entry to test with.
    pub fn entry(number: u64) -> Entry {
        let what = if number.is_multiple_of(3) {
            What::Finding { record: format!("{{\"client\":\"{}\",\"n\":{number}}}", client(number)).into() }
        } else {
            What::Decision(Box::new(decided(number)))
        };
        Entry { number, time: Time(1_000_000 * number), by: By::itself(), what }
    }

    #[test]
    fn a_line_reads_back_as_it_was_and_erased_keeps_its_hash() {
        let by = By { who: "j\"o".into(), from: Some("\n{\"entry\":".into()), why: ",\"hash\":\"".into() };
        for entry in [entry(1), entry(3), Entry { by, ..entry(2) }] {
            let (line, hash) = write(&entry, Hash([7; 32]), [9; SALT_BYTES]).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
            let whole = read(&line[..line.len() - 1]).unwrap();
            assert_eq!(
                (whole.entry.as_ref(), whole.hash, whole.header.prev),
                (Some(&entry), hash, Hash([7; 32]))
            );
            let short = erased(&line).unwrap();
            let short = read(&short[..short.len() - 1]).unwrap();
            assert_eq!((short.entry, short.hash, short.header), (None, hash, whole.header));
        }
    }

    #[test]
    fn every_naughty_string_reads_back_from_the_log() {
        let all = naughty_strings::BLNS.iter().flat_map(|text| crate::sinks::tests::entries(text));
        for entry in all {
            let (line, _) = write(&entry, Hash([7; 32]), [9; SALT_BYTES]).unwrap();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line: {entry:?}");
            assert_eq!(read(&line[..line.len() - 1]).unwrap().entry, Some(entry));
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let (line, hash) = write(&entry(2), Hash::default(), [9; SALT_BYTES]).unwrap();
        let line = &line[..line.len() - 1];
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut flipped = line.to_vec();
                flipped[at] ^= 1 << bit;
                match read(&flipped) {
                    Ok(read) => panic!("bit {bit} of byte {at} makes another line: {read:?}"),
                    Err(Broken::Body(header, kept)) => {
                        assert_eq!(
                            (header.entry, kept),
                            (2, hash),
                            "its place is known, bit {bit} of byte {at}"
                        );
                    }
                    Err(Broken::Whole) => {}
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
            let _ = erased(&bytes);
        }
    }
}
