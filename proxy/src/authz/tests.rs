//! What is answered in the words of each proxy.

use std::time::Duration;

use proptest::prelude::*;
use prost::Message;

use super::messages::{Asked, Attributes, CheckRequest, HttpRequest, Pair};
use super::*;

const BLOCKED: Verdict = Verdict::Refused(Refusal {
    decision: DecisionId(7),
    throttled: false,
    retry_after: Duration::from_secs(900),
});
const THROTTLED: Verdict = Verdict::Refused(Refusal {
    decision: DecisionId(7),
    throttled: true,
    retry_after: Duration::from_secs(60),
});

fn header<'r>(response: &'r Response<WayBody>, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_refusal_is_the_one_of_our_own_way() {
    for (verdict, status, retry) in [(BLOCKED, 403, "900"), (THROTTLED, 429, "60")] {
        let Verdict::Refused(refusal) = verdict else { unreachable!() };
        let response = answer(verdict, false);
        assert_eq!(response.status(), status);
        assert_eq!(header(&response, "retry-after"), retry);
        assert_eq!(header(&response, "x-checkgate-decision"), "d-0000000000000007");
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, Problem::refused(&refusal).bytes());
        let told = grpc::told(verdict);
        let denied = told.denied.unwrap();
        assert_eq!(denied.status.unwrap().code, i32::from(status));
        assert_eq!(denied.body.as_bytes(), body, "the same over gRPC");
        assert_ne!(told.status.unwrap().code, 0);
    }
}

#[test]
fn a_throttled_request_is_forbidden_where_nothing_else_is_understood() {
    let response = answer(THROTTLED, true);
    assert_eq!((response.status().as_u16(), header(&response, "x-checkgate-status")), (403, "429"));
    let response = answer(BLOCKED, true);
    assert_eq!((response.status().as_u16(), header(&response, "x-checkgate-status")), (403, "403"));
}

#[test]
fn only_a_tag_names_a_decision_to_the_model_server() {
    let tagged = answer(Verdict::Tagged(DecisionId(9)), false);
    assert_eq!(
        (tagged.status().as_u16(), header(&tagged, "x-checkgate-decision")),
        (200, "d-0000000000000009")
    );
    let passes = answer(Verdict::Passes, false);
    assert_eq!((passes.status().as_u16(), header(&passes, "x-checkgate-decision")), (200, ""));
    let ok = grpc::told(Verdict::Passes).ok.unwrap();
    assert_eq!(ok.headers_to_remove, ["x-checkgate-decision"], "a client's own goes no further");
    let ok = grpc::told(Verdict::Tagged(DecisionId(9))).ok.unwrap();
    assert_eq!(ok.headers[0].header.as_ref().unwrap().value, "d-0000000000000009");
    assert!(ok.headers_to_remove.is_empty());
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0][..], &length, message].concat()
}

fn question(value: &'static [u8]) -> Vec<u8> {
    let pair = Pair { key: "x-api-key".into(), value: value.into() };
    let http =
        HttpRequest { method: "POST".into(), path: "/a".into(), headers: vec![pair], header_map: None };
    let request = Some(Asked { http: Some(http) });
    CheckRequest { attributes: Some(Attributes { source: None, request }) }.encode_to_vec()
}

#[test]
fn a_message_is_read_whole_or_not_at_all() {
    let message = question(b"secret");
    let read = grpc::read(&framed(&message)).unwrap();
    assert_eq!(read.request.unwrap().http.unwrap().path, "/a");
    assert!(grpc::read(&framed(&question(b"\xff\xfe"))).is_some(), "what is no text is read as well");
    let mut compressed = framed(&message);
    compressed[0] = 1;
    for bad in [&compressed[..], &framed(&message)[..9], &[framed(&message), vec![0]].concat(), b"", b"\0\0"]
    {
        assert!(grpc::read(bad).is_none(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_message_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..200), place in 0_usize..80, byte: u8) {
        grpc::read(&bytes);
        grpc::read(&framed(&bytes));
        let mut changed = framed(&question(b"secret"));
        if let Some(at) = changed.get_mut(place) {
            *at = byte;
        }
        grpc::read(&changed);
    }
}
