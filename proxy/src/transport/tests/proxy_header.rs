//! Load balancers that say first whom a connection is from.

use super::*;

/// A balancer that is trusted.
const BALANCER: &str = "10.0.0.1";
const LINE: &str = "PROXY TCP4 203.0.113.9 10.0.0.9 4711 8080\r\n";
/// The same in version 2, with a value that nobody asked for.
const BLOCK: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x09\x0a\0\0\x09\x12\x67\x1f\x90\x04\0\x01\0";
/// A health check of version 2.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn asks() -> Rules {
    Rules { proxy_header: true, ..rules() }
}

async fn whom(server: &Server, header: &[u8], peer: &str) -> String {
    let mut connected = server.connect_from(peer);
    connected.client.write_all(header).await.ok();
    connected.client.write_all(b"GET /where HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n").await.ok();
    let (heard, _) = connected.hear_all().await;
    heard.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_trusted_balancer_says_whom_a_connection_is_from() {
    let server = Server::with(asks(), None);
    assert_eq!(whom(&server, LINE.as_bytes(), BALANCER).await, "203.0.113.9 named true");
    assert_eq!(whom(&server, BLOCK, BALANCER).await, "203.0.113.9 named true");
    let mapped = b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n";
    assert_eq!(whom(&server, mapped, BALANCER).await, "203.0.113.9 named true", "in its one form");
    for itself in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        assert_eq!(whom(&server, itself, BALANCER).await, "10.0.0.1 named false", "it speaks for itself");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_heard_and_nobody_is_served_without_a_header() {
    let server = Server::with(asks(), None);
    for (header, peer) in [(LINE.as_bytes(), "192.0.2.1"), (BLOCK, "192.0.2.1"), (b"", "192.0.2.1")] {
        assert_eq!(whom(&server, header, peer).await, "", "{peer} is no trusted proxy");
    }
    assert_eq!(server.rejected(Rejected::UntrustedProxy), 3);
    let two = [LINE.as_bytes(), LINE.as_bytes()].concat();
    for header in [b"".as_slice(), b"PROXY TCP4 203.0.113.9\r\n", b"PROXY TCP4 nobody 10.0.0.9 1 2\r\n"] {
        assert_eq!(whom(&server, header, BALANCER).await, "", "{:?}", String::from_utf8_lossy(header));
    }
    assert_eq!(server.rejected(Rejected::ProxyHeader), 3);
    assert!(!whom(&server, &two, BALANCER).await.contains("named"), "a second header is no request");
    assert!(server.seen().is_empty(), "none of them was asked about: {:?}", server.seen());
}

#[tokio::test(start_paused = true)]
async fn where_no_header_is_asked_for_one_is_no_request() {
    let server = Server::plain();
    for header in [LINE.as_bytes(), BLOCK] {
        let heard = whom(&server, header, BALANCER).await;
        assert!(!heard.contains("203.0.113.9"), "{heard}");
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
}

#[tokio::test(start_paused = true)]
async fn a_header_has_the_time_of_a_head() {
    let server = Server::with(asks(), None);
    let mut connected = server.connect_from(BALANCER);
    connected.say(&LINE[..20]).await;
    let (heard, seconds) = connected.hear_all().await;
    assert_eq!((heard.as_str(), seconds), ("", 10));
    assert_eq!(server.rejected(Rejected::HeadTimeout), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_count_for_whom_they_are_from() {
    let server = Server::with(asks(), None);
    let mut kept = Vec::new();
    for _ in 0..10 {
        let mut connected = server.connect_from(BALANCER);
        connected.say(&format!("{LINE}{}", post("/", "a"))).await;
        connected.hear("\r\n\r\na").await;
        kept.push(connected);
    }
    assert_eq!(whom(&server, LINE.as_bytes(), BALANCER).await, "", "the eleventh of one client");
    assert_eq!(server.rejected(Rejected::ConnectionsPerAddress), 1);
    let other = LINE.replace("203.0.113.9", "203.0.113.10");
    assert_eq!(whom(&server, other.as_bytes(), BALANCER).await, "203.0.113.10 named true", "another client");
}
