//! The PROXY protocol, versions 1 and 2: what a load balancer says first on a connection, before TLS and HTTP, of whom
//! it is from (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Pure: [`need`] says how many bytes a header takes as far as its first bytes tell, so that whoever reads takes no byte
//! that is not its own, and [`read`] reads it whole. Nothing ambiguous is read: what two readers could take for two
//! addresses is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes after which the version is known; no header is shorter.
pub const FIRST_BYTES: usize = 12;
/// Bytes of the longest header of version 1, its line's end included (section 2.1).
pub const LINE_BYTES_MAX: usize = 107;
/// Bytes of the longest header of version 2 that is read: many times what balancers add to the addresses.
pub const BLOCK_BYTES_MAX: usize = 4096;
/// What every header of version 2 begins with.
const SIGNATURE: &[u8; FIRST_BYTES] = b"\r\n\r\n\0\r\nQUIT\n";
/// What every header of version 1 begins with.
const LINE: &[u8] = b"PROXY ";
/// Bytes before the addresses of version 2.
const FIXED_BYTES: usize = 16;
/// The kind of the checksum over a whole header of version 2 (section 2.2.3).
const CRC32C: u8 = 0x03;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Whom the connection is from.
    From(IpAddr),
    /// The balancer speaks for itself, as for a health check, or does not know whom the connection is from.
    Itself,
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no header of the PROXY protocol")]
pub struct NoHeader;

/// How far a header goes, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// At least so many bytes in all; more than there are.
    More(usize),
    /// So many bytes are the header.
    Whole(usize),
}

/// How many bytes the header takes that `bytes` are the beginning of.
///
/// # Errors
/// They are the beginning of none.
pub fn need(bytes: &[u8]) -> Result<Need, NoHeader> {
    if bytes.len() < FIRST_BYTES {
        return Ok(Need::More(FIRST_BYTES));
    }
    let needed = match bytes.strip_prefix(SIGNATURE) {
        Some([_, _, high, low, ..]) => FIXED_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
        Some(_) => return Ok(Need::More(FIXED_BYTES)),
        None => return need_of_line(bytes),
    };
    match needed {
        needed if needed > BLOCK_BYTES_MAX => Err(NoHeader),
        needed if bytes.len() < needed => Ok(Need::More(needed)),
        needed => Ok(Need::Whole(needed)),
    }
}

/// A line's length is known at its end alone, so it is read byte by byte.
fn need_of_line(bytes: &[u8]) -> Result<Need, NoHeader> {
    if !bytes.starts_with(LINE) {
        return Err(NoHeader);
    }
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) if (FIRST_BYTES..LINE_BYTES_MAX).contains(&end) => Ok(Need::Whole(end + 1)),
        None if bytes.len() < LINE_BYTES_MAX => Ok(Need::More(bytes.len() + 1)),
        _ => Err(NoHeader),
    }
}

/// Reads a whole header.
///
/// # Errors
/// It is none, or says nothing that holds.
pub fn read(header: &[u8]) -> Result<Told, NoHeader> {
    match header.strip_prefix(SIGNATURE) {
        // Whatever a balancer that speaks for itself adds is to be ignored (section 2.2).
        Some([0x20, _, _, _, ..]) => Ok(Told::Itself),
        Some([0x21, family, _, _, rest @ ..]) => {
            check_sum(header)?;
            read_block(*family, rest)
        }
        Some(_) => Err(NoHeader),
        None => read_line(header),
    }
}

fn read_line(header: &[u8]) -> Result<Told, NoHeader> {
    let line = header.strip_suffix(b"\r\n").and_then(|line| line.strip_prefix(LINE)).ok_or(NoHeader)?;
    let line = std::str::from_utf8(line).map_err(|_| NoHeader)?;
    // What stands behind the word is to be ignored (section 2.1).
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return if line.contains(['\r', '\n']) { Err(NoHeader) } else { Ok(Told::Itself) };
    }
    let fields: Vec<&str> = line.split(' ').collect();
    let &[family, source, destination, source_port, destination_port] = fields.as_slice() else {
        return Err(NoHeader);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| NoHeader),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| NoHeader),
        _ => Err(NoHeader),
    };
    let (source, _) = (address(source)?, address(destination)?);
    (is_port(source_port) && is_port(destination_port)).then_some(Told::From(source)).ok_or(NoHeader)
}

/// A decimal port without leading zeros.
fn is_port(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

fn read_block(family: u8, rest: &[u8]) -> Result<Told, NoHeader> {
    // Family and transport: TCP over IPv4 and IPv6, and neither.
    let (source, more) = match family {
        0x11 => {
            let (addresses, more) = rest.split_first_chunk::<12>().ok_or(NoHeader)?;
            let (source, _) = addresses.split_first_chunk::<4>().ok_or(NoHeader)?;
            (IpAddr::from(*source), more)
        }
        0x21 => {
            let (addresses, more) = rest.split_first_chunk::<36>().ok_or(NoHeader)?;
            let (source, _) = addresses.split_first_chunk::<16>().ok_or(NoHeader)?;
            (IpAddr::from(*source), more)
        }
        // Whatever follows an address that is not told is to be skipped.
        0x00 => return Ok(Told::Itself),
        _ => return Err(NoHeader),
    };
    skip_values(more)?;
    Ok(Told::From(source))
}

/// What may follow the addresses: kind, length and value, up to the end.
fn skip_values(mut values: &[u8]) -> Result<(), NoHeader> {
    while let Some((_, length, rest)) = next_value(values)? {
        values = rest.get(length..).ok_or(NoHeader)?;
    }
    Ok(())
}

/// The kind and the length of a value, and what stands behind both.
type Value<'a> = (u8, usize, &'a [u8]);

/// The next value; nothing at the end.
fn next_value(values: &[u8]) -> Result<Option<Value<'_>>, NoHeader> {
    match values {
        [] => Ok(None),
        [kind, high, low, rest @ ..] => {
            Ok(Some((*kind, usize::from(u16::from_be_bytes([*high, *low])), rest)))
        }
        _ => Err(NoHeader),
    }
}

/// Where a header brings a checksum of itself, it must be right (section 2.2.3).
fn check_sum(header: &[u8]) -> Result<(), NoHeader> {
    let addresses = match header.get(13) {
        Some(0x11) => 12,
        Some(0x21) => 36,
        _ => return Ok(()),
    };
    let mut at = FIXED_BYTES + addresses;
    while let Some((kind, length, rest)) = next_value(header.get(at..).unwrap_or_default())? {
        at += 3;
        if kind == CRC32C {
            let told = rest.get(..length).and_then(|sum| <[u8; 4]>::try_from(sum).ok()).ok_or(NoHeader)?;
            let blank = |(place, byte): (usize, &u8)| if (at..at + 4).contains(&place) { 0 } else { *byte };
            let sum = crc32c(header.iter().enumerate().map(blank));
            return if sum == u32::from_be_bytes(told) { Ok(()) } else { Err(NoHeader) };
        }
        at += length;
    }
    Ok(())
}

/// The cyclic redundancy check of Castagnoli (RFC 3720, B.4).
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |sum: u32, byte: u8| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !bytes.fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &length, rest].concat()
    }

    fn v4(values: &[u8]) -> Vec<u8> {
        let addresses = [203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x67, 0x1f, 0x90];
        block(0x21, 0x11, &[&addresses[..], values].concat())
    }

    fn from(text: &str) -> Result<Told, NoHeader> {
        Ok(Told::From(text.parse().unwrap()))
    }

    #[test]
    fn a_line_of_version_1_says_whom_the_connection_is_from() {
        for (line, expected) in [
            ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 8080\r\n", from("203.0.113.9")),
            ("PROXY TCP6 2001:db8::9 fd00::1 1 65535\r\n", from("2001:db8::9")),
            ("PROXY UNKNOWN\r\n", Ok(Told::Itself)),
            ("PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n", Ok(Told::Itself)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 4711\r\n", Err(NoHeader)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 8080 1\r\n", Err(NoHeader)),
            ("PROXY TCP4  203.0.113.9 10.0.0.1 4711 8080\r\n", Err(NoHeader)),
            ("PROXY TCP4 203.0.113.09 10.0.0.1 4711 8080\r\n", Err(NoHeader)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 04711 8080\r\n", Err(NoHeader)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 4711 65536\r\n", Err(NoHeader)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 +1 8080\r\n", Err(NoHeader)),
            ("PROXY TCP4 2001:db8::9 fd00::1 1 2\r\n", Err(NoHeader)),
            ("PROXY TCP6 203.0.113.9 10.0.0.1 1 2\r\n", Err(NoHeader)),
            ("PROXY tcp4 203.0.113.9 10.0.0.1 1 2\r\n", Err(NoHeader)),
            ("PROXY TCP4 203.0.113.9 10.0.0.1 1 2\n", Err(NoHeader)),
            ("PROXY UNKNOWN\n", Err(NoHeader)),
            ("PROXY UNKNOWNS\r\n", Err(NoHeader)),
            ("proxy TCP4 203.0.113.9 10.0.0.1 1 2\r\n", Err(NoHeader)),
        ] {
            assert_eq!(read(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_block_of_version_2_says_whom_the_connection_is_from() {
        let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[9], &[0; 16], &[0, 1, 0, 2]].concat();
        for (header, expected, why) in [
            (v4(&[]), from("203.0.113.9"), "IPv4"),
            (block(0x21, 0x21, &v6), from("2001:db8::9"), "IPv6"),
            (v4(&[4, 0, 1, 0, 0x20, 0, 2, 1, 2]), from("203.0.113.9"), "values are skipped"),
            (block(0x20, 0x00, &[]), Ok(Told::Itself), "a health check"),
            (block(0x20, 0x11, &[0; 12]), Ok(Told::Itself), "one that brings addresses"),
            (block(0x20, 0x31, &[0; 3]), Ok(Told::Itself), "one of an odd family"),
            (block(0x20, 0x11, &[1]), Ok(Told::Itself), "one that brings half of an address"),
            (block(0x21, 0x00, &[1, 2, 3]), Ok(Told::Itself), "one who does not know"),
            (v4(&[4, 0, 9, 0]), Err(NoHeader), "a value that goes on behind the header"),
            (v4(&[4, 0]), Err(NoHeader), "half of a value's length"),
            (block(0x21, 0x11, &[0; 11]), Err(NoHeader), "half of an address"),
            (block(0x21, 0x21, &[0; 12]), Err(NoHeader), "an address of the other family"),
            (block(0x21, 0x12, &[0; 12]), Err(NoHeader), "UDP"),
            (block(0x21, 0x31, &[0; 216]), Err(NoHeader), "a socket of a machine"),
            (block(0x22, 0x11, &[0; 12]), Err(NoHeader), "an unknown command"),
            (block(0x11, 0x11, &[0; 12]), Err(NoHeader), "another version"),
        ] {
            assert_eq!(read(&header), expected, "{why}");
        }
    }

    #[test]
    fn a_checksum_must_be_right_where_there_is_one() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283, "the check value of the algorithm");
        let blank = v4(&[4, 0, 1, 0, CRC32C, 0, 4, 0, 0, 0, 0]);
        let sum = crc32c(blank.iter().copied()).to_be_bytes();
        let with = |sum: [u8; 4]| v4(&[&[4, 0, 1, 0, CRC32C, 0, 4][..], &sum].concat());
        assert_eq!(read(&with(sum)), from("203.0.113.9"));
        for bit in 0..32 {
            let wrong = (u32::from_be_bytes(sum) ^ 1 << bit).to_be_bytes();
            assert_eq!(read(&with(wrong)), Err(NoHeader), "bit {bit} is another");
        }
        assert_eq!(read(&v4(&[CRC32C, 0, 2, 0, 0])), Err(NoHeader), "half of a checksum");
    }

    #[test]
    fn no_byte_behind_a_header_is_asked_for() {
        assert_eq!(need(b"PROXY"), Ok(Need::More(FIRST_BYTES)));
        assert_eq!(need(b"GET / HTTP/1.1\r\n"), Err(NoHeader));
        assert_eq!(need(b"PROXY UNKNOWN\r\nGET"), Ok(Need::Whole(15)));
        assert_eq!(need(b"PROXY UNKNOWN\r"), Ok(Need::More(15)));
        assert_eq!(need(&[b"PROXY ".as_slice(), &[b'1'; 101]].concat()), Err(NoHeader), "no end in sight");
        assert_eq!(need(SIGNATURE), Ok(Need::More(FIXED_BYTES)));
        let header = v4(&[]);
        assert_eq!(need(&header[..20]), Ok(Need::More(28)));
        assert_eq!(need(&[&header[..], b"GET"].concat()), Ok(Need::Whole(28)));
        assert_eq!(need(&block(0x21, 0x11, &[0; BLOCK_BYTES_MAX])), Err(NoHeader), "too long");
    }

    proptest! {
        /// Whatever comes, whoever reads byte by byte and whoever has everything at once come to the same.
        #[test]
        fn pieces_and_the_whole_are_one(tail in prop::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            let bytes = match kind {
                0 => [&SIGNATURE[..], &tail].concat(),
                1 => [LINE, &tail].concat(),
                _ => tail,
            };
            let mut read_so_far = 0;
            let by_pieces = loop {
                match need(&bytes[..read_so_far]) {
                    Ok(Need::More(more)) => {
                        prop_assert!(more > read_so_far, "it asks for nothing");
                        if more > bytes.len() {
                            break None;
                        }
                        read_so_far = more;
                    }
                    Ok(Need::Whole(length)) => {
                        prop_assert_eq!(length, read_so_far, "it took a byte too many");
                        break Some(read(&bytes[..length]));
                    }
                    Err(error) => break Some(Err(error)),
                }
            };
            let at_once = match need(&bytes) {
                Ok(Need::Whole(length)) => Some(read(&bytes[..length])),
                Ok(Need::More(_)) => None,
                Err(error) => Some(Err(error)),
            };
            prop_assert_eq!(by_pieces, at_once);
        }

        /// What is written is read.
        #[test]
        fn every_address_comes_through(bits in any::<u128>(), is_v6 in any::<bool>(), port in any::<u16>()) {
            let (ip, family) = if is_v6 {
                (IpAddr::from(Ipv6Addr::from_bits(bits)), "TCP6")
            } else {
                (IpAddr::from(Ipv4Addr::from_bits(bits as u32)), "TCP4")
            };
            let line = format!("PROXY {family} {ip} {ip} {port} {port}\r\n");
            prop_assert_eq!(read(line.as_bytes()), Ok(Told::From(ip)));
            let octets = match ip {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let block = block(0x21, if is_v6 { 0x21 } else { 0x11 }, &[&octets[..], &octets, &[0; 4]].concat());
            prop_assert_eq!(read(&block), Ok(Told::From(ip)));
        }
    }
}
