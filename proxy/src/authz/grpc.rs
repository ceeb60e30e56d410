//! Questions over gRPC: `envoy.service.auth.v3.Authorization/Check`, one message each way.
//!
//! A message is framed by one byte that says whether it is compressed, and its length in four (gRPC over HTTP/2).

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use checkgate_config::address;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use tokio::time::timeout;

use super::messages::{
    Allowed, Attributes, CheckRequest, CheckResponse, Denied, HeaderOption, HeaderValue as Told, HttpStatus,
    Status,
};
use super::subject::Subject;
use super::{Authz, DECISION, STATUS, Verdict};
use crate::clock;
use crate::gate::Refusal;
use crate::metrics::labels::AuthzOutcome;
use crate::transport::{Peer, Received};
use crate::way::body::WayBody;
use crate::way::problem::{Form, MEDIA_TYPE, Problem};

/// The one method that is served.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Bytes of a question: the headers of a request, which have bounds of their own, and what Envoy adds.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// How long a question may take to come.
const WHOLE_WITHIN: Duration = Duration::from_secs(5);
/// Headers of a question that are looked at.
const HEADERS_MAX: usize = 256;
/// `PERMISSION_DENIED` and `RESOURCE_EXHAUSTED`.
const DENIED: i32 = 7;
const EXHAUSTED: i32 = 8;
/// A header of this name takes the place of one that is there.
const OVERWRITE: i32 = 2;

/// Whether a question is a call of the one method, over the one version of HTTP that gRPC has.
pub fn is_call<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    path == CHECK && request.version() == Version::HTTP_2 && Form::of(request.headers()) == Form::Grpc
}

/// Answers one call.
pub async fn answer(authz: &Authz, peer: &Peer, request: Request<Received>) -> Response<WayBody> {
    let body = Limited::new(request.into_body(), MESSAGE_BYTES_MAX).collect();
    let whole = timeout(WHOLE_WITHIN, body).await.ok().and_then(Result::ok);
    let question = whole.and_then(|body| read(&body.to_bytes()));
    let Some(question) = question else {
        authz.metrics.authz_grpc.inc(AuthzOutcome::Malformed);
        return message(&told(Verdict::Passes));
    };
    let (headers, subject) = meant(authz, question);
    let verdict = authz.judge(peer, &headers, || subject, clock::now());
    authz.metrics.authz_grpc.inc(verdict.outcome());
    message(&told(verdict))
}

/// What the message of a body asks; nothing where it holds none, or a compressed one, which nobody was offered.
pub(super) fn read(body: &[u8]) -> Option<Attributes> {
    let (compressed, rest) = body.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    let whole = usize::try_from(u32::from_be_bytes(*length)).ok() == Some(message.len());
    if *compressed != 0 || !whole {
        return None;
    }
    CheckRequest::decode(message).ok()?.attributes
}

/// The headers of the request that is held, with the peer of the asking proxy as their nearest hop: where that proxy
/// adds none itself, the headers alone would be the client's word.
fn meant(authz: &Authz, question: Attributes) -> (HeaderMap, Subject) {
    let source = question.source.and_then(|peer| peer.address).and_then(|address| address.socket);
    let source: Option<IpAddr> =
        source.and_then(|socket| address::hop(std::str::from_utf8(&socket.address).ok()?));
    let request = question.request.and_then(|request| request.http).unwrap_or_default();
    let pairs = request.headers.into_iter().map(|pair| (pair.key, pair.value));
    let raw = request.header_map.into_iter().flat_map(|map| map.headers).map(|header| {
        let value = if header.raw_value.is_empty() { header.value } else { header.raw_value };
        (header.key, value)
    });
    let mut headers = HeaderMap::new();
    for (key, value) in pairs.chain(raw).take(HEADERS_MAX) {
        // Names such as `:path` are none here.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&key), HeaderValue::from_maybe_shared(value)) {
            headers.append(name, value);
        }
    }
    if let Some(source) = source {
        (authz.way)().identify.add_hop(&mut headers, source);
    }
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    (headers, Subject::of_message(&text(&request.method), &text(&request.path)))
}

/// A verdict in Envoy's words.
pub(super) fn told(verdict: Verdict) -> CheckResponse {
    let (code, denied, ok) = match verdict {
        Verdict::Refused(refusal) => {
            (if refusal.throttled { EXHAUSTED } else { DENIED }, Some(refused(&refusal)), None)
        }
        Verdict::Tagged(decision) => {
            let headers = vec![header(DECISION.as_str(), decision.to_string())];
            (0, None, Some(Allowed { headers, headers_to_remove: Vec::new() }))
        }
        // The header is this proxy's word alone: one that a client brings goes no further.
        Verdict::Passes => {
            let headers_to_remove = vec![DECISION.as_str().to_owned()];
            (0, None, Some(Allowed { headers: Vec::new(), headers_to_remove }))
        }
    };
    CheckResponse { status: Some(Status { code }), denied, ok }
}

fn refused(refusal: &Refusal) -> Denied {
    let problem = Problem::refused(refusal);
    Denied {
        status: Some(HttpStatus { code: i32::from(problem.status()) }),
        headers: vec![
            header(CONTENT_TYPE.as_str(), MEDIA_TYPE.to_owned()),
            header("retry-after", refusal.retry_after.as_secs().to_string()),
            header(DECISION.as_str(), refusal.decision.to_string()),
            header(STATUS.as_str(), problem.status().to_string()),
        ],
        body: String::from_utf8_lossy(&problem.bytes()).into_owned(),
    }
}

fn header(key: &str, value: String) -> HeaderOption {
    let header =
        Told { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), raw_value: Bytes::new() };
    HeaderOption { header: Some(header), append_action: OVERWRITE }
}

fn message(said: &CheckResponse) -> Response<WayBody> {
    let mut framed = BytesMut::with_capacity(5 + said.encoded_len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(said.encoded_len()).unwrap_or_default());
    framed.put_slice(&said.encode_to_vec());
    let trailers = async { Some(Ok(succeeded())) };
    let body = Full::new(framed.freeze()).map_err(|never| match never {}).with_trailers(trailers);
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The call succeeded; what it says stands in the message.
fn succeeded() -> HeaderMap {
    std::iter::once((HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))).collect()
}
