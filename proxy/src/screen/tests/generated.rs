//! Streams of requests: clean ones by grammar, and what mutations make of them.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A clean message.
pub fn message() -> impl Strategy<Value = Vec<u8>> {
    (request_line(), fields(), body()).prop_map(|((line, version), fields, (framing, body))| {
        let framing = if version == "1.0" && body_is_chunked(&framing) { String::new() } else { framing };
        let body = if framing.is_empty() { Vec::new() } else { body };
        let head = format!("{line} HTTP/{version}\r\n{fields}{framing}\r\n");
        [head.into_bytes(), body].concat()
    })
}

fn body_is_chunked(framing: &str) -> bool {
    framing.starts_with("Transfer")
}

/// Up to four clean messages on one connection.
pub fn clean() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(message(), 1..5).prop_map(|messages| messages.concat())
}

/// Clean messages with up to three mutations.
pub fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (clean(), prop::collection::vec(mutation(), 0..4)).prop_map(|(bytes, mutations)| {
        mutations.into_iter().fold(bytes, |bytes, mutation| mutation.applied_to(bytes))
    })
}

fn request_line() -> impl Strategy<Value = (String, &'static str)> {
    let method =
        select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "QUERY", "M-SEARCH"]);
    let target = prop_oneof![
        4 => "/[a-zA-Z0-9_~!$&'()*+,;=:@/-]{0,12}(\\?[a-z0-9=&%/?{}|^`.-]{0,8})?",
        1 => Just("http://a.example:80/x".to_owned()),
        1 => Just("/%20%2F".to_owned()),
    ];
    let version = prop_oneof![9 => Just("1.1"), 1 => Just("1.0")];
    (method, target, version).prop_map(|(method, target, version)| (format!("{method} {target}"), version))
}

fn fields() -> impl Strategy<Value = String> {
    let line = select(vec![
        "Accept: */*\r\n",
        "X-Empty:\r\n",
        "X-Spaces: \t a b \t\r\n",
        "Connection: keep-alive\r\n",
        "Connection: TE, X-Private\r\n",
        "TE: trailers\r\n",
        "Expect: 100-continue\r\n",
        "Cookie: a=b; c=d\r\n",
        "X-Title: caf\u{e9}\r\n",
        "api_key: 7\r\n",
        "Keep-Alive: timeout=5\r\n",
    ]);
    let other = "X-[A-Za-z0-9]{0,8}:[ \t]{0,2}[ -~]{0,20}\r\n";
    let lines = prop::collection::vec(prop_oneof![line.prop_map(str::to_owned), other], 0..5);
    (lines, any::<Index>()).prop_map(|(mut lines, place)| {
        let mut expected = false;
        lines.retain(|line| !line.starts_with("Expect") || !std::mem::replace(&mut expected, true));
        lines.insert(place.index(lines.len() + 1), "Host: a.example:80\r\n".to_owned());
        lines.concat()
    })
}

/// The lines of framing and the body that they frame.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..4);
    let trailers = prop::collection::vec("X-[a-z]{1,4}:[ -~]{0,8}\r\n", 0..3);
    prop_oneof![
        1 => Just((String::new(), Vec::new())),
        2 => bytes().prop_map(|bytes| (format!("Content-Length: {}\r\n", bytes.len()), bytes)),
        2 => (chunks, trailers).prop_map(|(chunks, trailers)| {
            ("Transfer-Encoding: chunked\r\n".to_owned(), chunked(&chunks, &trailers.concat()))
        }),
    ]
}

fn chunked(chunks: &[Vec<u8>], trailers: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in chunks {
        body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        body.extend(chunk);
        body.extend(b"\r\n");
    }
    body.extend(format!("0\r\n{trailers}\r\n").into_bytes());
    body
}

/// A change of a few bytes.
#[derive(Clone, Debug)]
struct Mutation {
    at: Index,
    removed: usize,
    inserted: Vec<u8>,
}

impl Mutation {
    fn applied_to(self, mut bytes: Vec<u8>) -> Vec<u8> {
        let at = self.at.index(bytes.len() + 1);
        let end = bytes.len().min(at + self.removed);
        bytes.splice(at..end, self.inserted);
        bytes
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let telling = [
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        ",",
        ";",
        "0",
        "1",
        "a",
        "\u{b}",
        "_",
        "%",
        "#",
        "?",
        "/",
        "..",
        "\r\n\r\n",
        "0\r\n\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Host: b\r\n",
        "Connection: close\r\n",
        "Upgrade: h2c\r\n",
        "HTTP/1.0",
        "GET / HTTP/1.1\r\n",
        "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "3\r\nabc\r\n",
        ";a=b",
        "\r\n ",
        "X: y\r\n",
    ];
    let inserted = prop_oneof![
        6 => select(telling.map(|text| text.as_bytes().to_vec()).to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
        2 => Just(Vec::new()),
    ];
    (any::<Index>(), 0..4_usize, inserted).prop_map(|(at, removed, inserted)| Mutation {
        at,
        removed,
        inserted,
    })
}
