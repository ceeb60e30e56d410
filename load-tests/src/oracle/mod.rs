//! The byte oracle: what did the upstream really receive, and would every server read the same requests from it?
//!
//! A vector is raw bytes of a client. [`wire`] sends them to a proxy from an address of their own, [`recorder`]
//! stands behind the proxy and keeps every byte that comes through, [`readers`] reads those bytes with the habits of
//! real servers, and [`verdict`] says whether the proxy kept the client's bytes from meaning two things.

pub mod honest;
pub mod http2;
pub mod mutations;
pub mod process;
pub mod proxies;
pub mod range;
pub mod readers;
pub mod recorder;
pub mod vectors;
pub mod verdict;
pub mod wire;

/// Bytes as a line that a person can read and paste back into a vector file.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text
}

/// The beginning of [`escaped`] bytes, for messages.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 600;
    let shown = escaped(&bytes[..bytes.len().min(SHOWN)]);
    if bytes.len() > SHOWN { format!("{shown} ... ({} bytes)", bytes.len()) } else { shown }
}
