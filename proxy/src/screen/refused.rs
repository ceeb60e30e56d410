//! Why the screen refuses what a client sent.

/// One reason; the label `reason` of `checkgate_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The method is no word of upper-case letters, or one that a proxy for models does not serve: CONNECT, TRACE,
    /// TRACK, PRI.
    Method,
    /// The target is neither a clean path nor an absolute one nor, for OPTIONS, `*` (RFC 9112, 3.2).
    Target,
    /// The target is longer than 8 KiB.
    TargetTooLong,
    /// The version is neither `HTTP/1.0` nor `HTTP/1.1`.
    Version,
    /// More than one empty line before a request (RFC 9112, 2.2).
    EmptyLines,
    /// A line ends with LF alone (RFC 9112, 2.2).
    BareLineFeed,
    /// CR that is not followed by LF (RFC 9112, 2.2).
    BareCarriageReturn,
    /// NUL or another control byte in a name or value (RFC 9110, 5.5).
    ControlByte,
    /// A header line that begins with a space or a tab (RFC 9112, 5.2).
    LineFolding,
    /// A space or a tab between a name and its colon (RFC 9112, 5.1).
    SpaceBeforeColon,
    /// A header line without a name, without a colon, or whose name is no token (RFC 9110, 5.1).
    FieldName,
    /// A name that some servers take for a field of framing, routing or identity, such as `Content_Length`.
    FieldNameCollides,
    /// The head is larger than the bound.
    HeadTooLarge,
    /// The head, or the trailers, have more lines than the bound.
    TooManyLines,
    /// No `Host` in HTTP/1.1 (RFC 9112, 3.2), and neither it nor `:authority` in HTTP/2.
    HostMissing,
    /// More than one `Host` (RFC 9112, 3.2).
    HostDoubled,
    /// `Host` or `:authority` is no name or address with an optional port (RFC 9110, 7.2).
    HostMalformed,
    /// `Host` differs from the authority of the target (RFC 9112, 3.2.2; RFC 9113, 8.3.1).
    HostMismatch,
    /// `Content-Length` is no plain decimal number (RFC 9110, 8.6).
    ContentLength,
    /// More than one `Content-Length`, equal ones too (RFC 9112, 6.3).
    ContentLengthDoubled,
    /// `Transfer-Encoding` is not exactly one `chunked` (RFC 9112, 6.1).
    TransferEncoding,
    /// `Transfer-Encoding` where the version has none: HTTP/1.0 (RFC 9112, 6.1) and HTTP/2 (RFC 9113, 8.2.2).
    TransferEncodingUnexpected,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112, 6.1).
    TwoLengths,
    /// The client asks for another protocol (RFC 9110, 7.8).
    Upgrade,
    /// `Connection` is no list of tokens, or nominates a field that the request needs (RFC 9110, 7.6.1).
    Connection,
    /// `Expect` is not exactly one `100-continue` (RFC 9110, 10.1.1).
    Expect,
    /// A field that HTTP/2 does not have (RFC 9113, 8.2.2).
    ConnectionSpecific,
    /// The size of a chunk is no short hexadecimal number (RFC 9112, 7.1).
    ChunkSize,
    /// A chunk with an extension (RFC 9112, 7.1.1).
    ChunkExtension,
    /// A chunk that goes on after its size (RFC 9112, 7.1).
    ChunkEnd,
    /// A field that must not stand in trailers (RFC 9110, 6.5.1).
    TrailerField,
    /// The trailers are larger than the bound.
    TrailersTooLarge,
    /// An HTTP/2 connection that does not begin with the preface (RFC 9113, 3.4).
    Preface,
    /// An HTTP/2 frame larger than was agreed upon (RFC 9113, 4.2).
    FrameTooLarge,
    /// Too many HTTP/2 streams reset.
    Resets,
    /// Too many HTTP/2 streams reset soon after they were opened (CVE-2023-44487).
    RapidResets,
    /// Too many PING frames.
    Pings,
    /// Too many SETTINGS frames.
    Settings,
    /// Too many DATA frames that carry nothing and end nothing.
    EmptyData,
    /// Too many CONTINUATION frames, of one block or of all.
    Continuations,
    /// Too many WINDOW_UPDATE frames.
    WindowUpdates,
    /// Too many PRIORITY and PRIORITY_UPDATE frames.
    Priorities,
    /// Too many frames that no client needs: of unknown types, without effect, or of a wrong length.
    OddFrames,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 43] = [
        Self::Method,
        Self::Target,
        Self::TargetTooLong,
        Self::Version,
        Self::EmptyLines,
        Self::BareLineFeed,
        Self::BareCarriageReturn,
        Self::ControlByte,
        Self::LineFolding,
        Self::SpaceBeforeColon,
        Self::FieldName,
        Self::FieldNameCollides,
        Self::HeadTooLarge,
        Self::TooManyLines,
        Self::HostMissing,
        Self::HostDoubled,
        Self::HostMalformed,
        Self::HostMismatch,
        Self::ContentLength,
        Self::ContentLengthDoubled,
        Self::TransferEncoding,
        Self::TransferEncodingUnexpected,
        Self::TwoLengths,
        Self::Upgrade,
        Self::Connection,
        Self::Expect,
        Self::ConnectionSpecific,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::TrailerField,
        Self::TrailersTooLarge,
        Self::Preface,
        Self::FrameTooLarge,
        Self::Resets,
        Self::RapidResets,
        Self::Pings,
        Self::Settings,
        Self::EmptyData,
        Self::Continuations,
        Self::WindowUpdates,
        Self::Priorities,
        Self::OddFrames,
    ];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Target => "target",
            Self::TargetTooLong => "target_too_long",
            Self::Version => "version",
            Self::EmptyLines => "empty_lines",
            Self::BareLineFeed => "bare_line_feed",
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::ControlByte => "control_byte",
            Self::LineFolding => "line_folding",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::FieldName => "field_name",
            Self::FieldNameCollides => "field_name_collides",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyLines => "too_many_lines",
            Self::HostMissing => "host_missing",
            Self::HostDoubled => "host_doubled",
            Self::HostMalformed => "host_malformed",
            Self::HostMismatch => "host_mismatch",
            Self::ContentLength => "content_length",
            Self::ContentLengthDoubled => "content_length_doubled",
            Self::TransferEncoding => "transfer_encoding",
            Self::TransferEncodingUnexpected => "transfer_encoding_unexpected",
            Self::TwoLengths => "two_lengths",
            Self::Upgrade => "upgrade",
            Self::Connection => "connection",
            Self::Expect => "expect",
            Self::ConnectionSpecific => "connection_specific",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::TrailerField => "trailer_field",
            Self::TrailersTooLarge => "trailers_too_large",
            Self::Preface => "preface",
            Self::FrameTooLarge => "frame_too_large",
            Self::Resets => "resets",
            Self::RapidResets => "rapid_resets",
            Self::Pings => "pings",
            Self::Settings => "settings",
            Self::EmptyData => "empty_data",
            Self::Continuations => "continuations",
            Self::WindowUpdates => "window_updates",
            Self::Priorities => "priorities",
            Self::OddFrames => "odd_frames",
        }
    }

    /// The status of the answer to an HTTP/1.1 request, or to an HTTP/2 request on its stream. A budget of frames ends
    /// the whole connection instead, and its status is never written.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLarge | Self::TooManyLines | Self::TrailersTooLarge => 431,
            Self::Version => 505,
            _ => 400,
        }
    }
}
