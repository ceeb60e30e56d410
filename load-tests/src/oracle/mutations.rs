//! Requests that are almost right: seeded, so that each can be made again.

/// A small generator of pseudo-random numbers (splitmix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of one seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 where there is none.
    #[allow(clippy::cast_possible_truncation, reason = "usize has 64 bits wherever these tests run")]
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.bits() % bound as u64) as usize }
    }

    /// One of `choices`, which are not empty.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Bytes that mean something to a parser.
const MEANINGFUL: [&[u8]; 22] = [
    b"\r", b"\n", b"\r\n", b"\0", b"\t", b" ", b":", b",", b";", b"\x0b", b"\x0c", b"\x7f", b"\x80", b"\xff",
    b"_", b"+", b"-", b"0", b"0x", b"\"", b"\\", b"#",
];

/// Header lines and pieces of framing that change what a request is.
const FRAGMENTS: [&[u8]; 12] = [
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"Host: other\r\n",
    b"Connection: content-length\r\n",
    b"Connection: close, x-forwarded-for\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: h2c\r\n",
    b"0\r\n\r\n",
    b"GET /second HTTP/1.1\r\nHost: oracle\r\n\r\n",
];

/// One request of `bases`, changed in one to three places.
pub fn mutated(bases: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.one_of(bases).clone();
    for _ in 0..=random.below(3) {
        bytes = change(&bytes, bases, random);
    }
    bytes
}

fn change(bytes: &[u8], bases: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let at = random.below(bytes.len() + 1);
    let (front, back) = bytes.split_at(at);
    match random.below(9) {
        0 => flipped(bytes, at, random),
        1 | 2 => [front, *random.one_of(&MEANINGFUL), back].concat(),
        3 => [front, back.get(1..).unwrap_or_default()].concat(),
        4 => [front, *random.one_of(&MEANINGFUL), back.get(1..).unwrap_or_default()].concat(),
        5 => doubled_line(bytes, random),
        6 => case_changed(bytes, at),
        7 => {
            let at = line_start(bytes, at);
            [&bytes[..at], *random.one_of(&FRAGMENTS), &bytes[at..]].concat()
        }
        _ => {
            let other = random.one_of(bases);
            [front, &other[random.below(other.len())..]].concat()
        }
    }
}

fn flipped(bytes: &[u8], at: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = 1 << random.below(8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bit;
    }
    bytes
}

fn doubled_line(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let chosen = random.below(lines.len());
    let twice = |(index, line): (usize, &&[u8])| line.repeat(if index == chosen { 2 } else { 1 });
    lines.iter().enumerate().flat_map(twice).collect()
}

fn case_changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().skip(at).take(4) {
        *byte = if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    }
    bytes
}

fn line_start(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |feed| feed + 1)
}

#[cfg(test)]
mod tests {
    use super::{Random, mutated};

    #[test]
    fn a_seed_gives_the_same_requests_again_and_they_differ() {
        let bases = vec![b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), b"POST / HTTP/1.1\r\n\r\n".to_vec()];
        let all = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| mutated(&bases, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(all(7), all(7), "the same seed gives the same requests");
        assert_ne!(all(7), all(8), "another seed gives others");
        let changed = all(7).iter().filter(|bytes| !bases.contains(bytes)).count();
        assert!(changed > 180, "only {changed} of 200 requests were changed");
    }
}
