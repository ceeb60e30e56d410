//! Why a client's connection or request was turned away before anything looked at what it asks.

use crate::metrics::labels::Label;
use crate::screen::Refused;

/// One reason; the label `reason` of `checkgate_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The screen refused what was sent.
    Screen(Refused),
    /// As many connections are open as may be.
    Connections,
    /// As many connections of this address are open as may be.
    ConnectionsPerAddress,
    /// A header of the PROXY protocol is asked for, and something else came.
    ProxyHeader,
    /// Such a header is asked for, and the peer is no trusted proxy.
    UntrustedProxy,
    /// The TLS handshake failed: no common version, no certificate where one is asked for, or one that does not verify.
    Handshake,
    /// No whole head came in time, a TLS handshake and the preface of HTTP/2 included.
    HeadTimeout,
    /// Nothing was asked on a kept connection for too long.
    KeepAlive,
    /// A request body came too slowly.
    BodyRate,
    /// The client took its answer too slowly.
    AnswerRate,
    /// A client opened more HTTP/2 streams at once than it was granted.
    Http2Streams,
    /// The HTTP/2 library closed the connection for what the client made it reset or hold.
    Http2Calm,
    /// As many requests are open as may be.
    InFlight,
    /// The request's body is longer than its model takes.
    BodyTooLarge,
}

/// The reasons that are not the screen's.
const OWN: [Rejected; 13] = [
    Rejected::Connections,
    Rejected::ConnectionsPerAddress,
    Rejected::Handshake,
    Rejected::HeadTimeout,
    Rejected::KeepAlive,
    Rejected::BodyRate,
    Rejected::AnswerRate,
    Rejected::Http2Streams,
    Rejected::Http2Calm,
    Rejected::InFlight,
    Rejected::BodyTooLarge,
    Rejected::ProxyHeader,
    Rejected::UntrustedProxy,
];

const COUNT: usize = OWN.len() + Refused::ALL.len();

/// The screen's reasons stand behind the transport's own.
const ALL: [Rejected; COUNT] = {
    let mut all = [Rejected::Connections; COUNT];
    let mut place = 0;
    while place < COUNT {
        all[place] =
            if place < OWN.len() { OWN[place] } else { Rejected::Screen(Refused::ALL[place - OWN.len()]) };
        place += 1;
    }
    all
};

impl Label for Rejected {
    const ALL: &'static [Self] = &ALL;

    fn as_str(self) -> &'static str {
        match self {
            Self::Screen(refused) => refused.as_str(),
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::Handshake => "handshake",
            Self::HeadTimeout => "head_timeout",
            Self::KeepAlive => "keep_alive",
            Self::BodyRate => "body_rate",
            Self::AnswerRate => "answer_rate",
            Self::Http2Streams => "http2_streams",
            Self::Http2Calm => "http2_calm",
            Self::InFlight => "in_flight",
            Self::BodyTooLarge => "body_too_large",
            Self::ProxyHeader => "proxy_header",
            Self::UntrustedProxy => "untrusted_proxy",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Connections => 0,
            Self::ConnectionsPerAddress => 1,
            Self::Handshake => 2,
            Self::HeadTimeout => 3,
            Self::KeepAlive => 4,
            Self::BodyRate => 5,
            Self::AnswerRate => 6,
            Self::Http2Streams => 7,
            Self::Http2Calm => 8,
            Self::InFlight => 9,
            Self::BodyTooLarge => 10,
            Self::ProxyHeader => 11,
            Self::UntrustedProxy => 12,
            Self::Screen(refused) => OWN.len() + refused as usize,
        }
    }
}
