//! The names that OpenTelemetry's semantic conventions give, all of them in this one table: a convention that moves is
//! one edit here. Those of HTTP are stable (release 1.44). No protocol that is decoded is generative, so none of the
//! `gen_ai.` names, which still move, is used; they belong here once one is.

/// The method of a request.
pub const METHOD: &str = "http.request.method";
/// What stands for a method that the conventions do not know.
pub const OTHER_METHOD: &str = "_OTHER";
/// Tries after the first.
pub const RESEND_COUNT: &str = "http.request.resend_count";
/// The status of an answer.
pub const STATUS: &str = "http.response.status_code";
/// The configured path that claims a request.
pub const ROUTE: &str = "http.route";
/// The version of HTTP.
pub const VERSION: &str = "network.protocol.version";
/// The scheme of a URL.
pub const SCHEME: &str = "url.scheme";
/// The host that is asked.
pub const SERVER_ADDRESS: &str = "server.address";
/// The port that is asked.
pub const SERVER_PORT: &str = "server.port";
/// How a request failed.
pub const ERROR_TYPE: &str = "error.type";
/// Which part of the program a log line comes from.
pub const LOGGER: &str = "code.namespace";

/// The model that is asked, as metrics label it.
pub const MODEL: &str = "checkgate.model";
/// The request, as findings name it.
pub const REQUEST: &str = "checkgate.request.id";
/// A decision.
pub const DECISION: &str = "checkgate.decision.id";
/// What a decision did to a request.
pub const EFFECT: &str = "checkgate.decision.effect";
/// All traces of the example requests of a finding.
pub const TRACES: &str = "checkgate.trace_ids";
/// What stands before each field of a record.
pub const RECORD: &str = "checkgate.";

/// Methods that the conventions know.
pub const METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
