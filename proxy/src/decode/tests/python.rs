//! Documents that `json.loads` of CPython 3.11 takes and strict parsers refuse, and their neighbours that it
//! refuses too. Each is read, or refused with a reason: nothing that Python reads is unparsable here.

use super::*;

/// Read by Python, and here: the value of the one element as it is printed.
const READ: &[(&[u8], &str)] = &[
    (b"\xEF\xBB\xBF[1]", "1.0"),
    (b"\xFF\xFE[\x001\x00]\x00", "1.0"),
    (b"\xFE\xFF\x00[\x001\x00]", "1.0"),
    (b"[\x001\x00]\x00", "1.0"),
    (b"\x00[\x001\x00]", "1.0"),
    (b"\xFF\xFE\0\0[\0\0\x001\0\0\0]\0\0\0", "1.0"),
    (b"\0\0\xFE\xFF\0\0\0[\0\0\x001\0\0\0]", "1.0"),
    (b"[\0\0\x001\0\0\0]\0\0\0", "1.0"),
    (b"\0\0\0[\0\0\x001\0\0\0]", "1.0"),
    (b"[\0\"\0\x00\xD8\"\0]\0", "text \"\u{FFFD}\""),
    (b"[NaN]", "NaN"),
    (b"[Infinity]", "inf"),
    (b"[-Infinity]", "-inf"),
    (b"[1e9999]", "inf"),
    (b"[-1E+9999]", "-inf"),
    (b"[1e-9999]", "0.0"),
    (b"[-0]", "0.0"),
    (b"[-0.0]", "-0.0"),
    (b"[1e99999999999999999999999999]", "inf"),
    (b"[0e99999999999999999999999999]", "0.0"),
    (b"[100000000000000000000000000000]", "1e29"),
    (b"[0.1000000000000000055511151231257827021181583404541015625]", "0.1"),
    (b"[\"\\ud800\"]", "text \"\u{FFFD}\""),
    (b"[\"\\udc00\\ud800\"]", "text \"\u{FFFD}\u{FFFD}\""),
    (b"[\"\\ud800\\u0041\"]", "text \"\u{FFFD}A\""),
    (b"[\"\\uD83D\\uDE00\"]", "text \"\u{1F600}\""),
    (b"[\"\xED\xA0\x80\"]", "text \"\u{FFFD}\""),
    (b"[\"\\u0000\"]", "text \"\\0\""),
    (b"[\"\x7F\"]", "text \"\\u{7f}\""),
    (b"[\"\\/\\\"\\\\\\b\\f\\n\\r\\t\"]", "text \"/\\\"\\\\\\u{8}\\u{c}\\n\\r\\t\""),
    (b"[\"\xEF\xBF\xBF\"]", "text \"\\u{ffff}\""),
    (b" \t\r\n[ \t\r\n1 \t\r\n] \t\r\n", "1.0"),
];

/// Refused by Python and here.
const REFUSED: &[&[u8]] = &[
    b"",
    b" ",
    b"\xEF\xBB\xBF",
    b"\xFF\xFE",
    b"[1",
    b"[1,]",
    b"[,1]",
    b"[1 2]",
    b"[1]]",
    b"[1}",
    b"{\"a\":1]",
    b"{\"a\":1,}",
    b"{\"a\"}",
    b"{a:1}",
    b"{1:1}",
    b"{'a':1}",
    b"[1] // comment",
    b"[/**/1]",
    b"[01]",
    b"[-01]",
    b"[+1]",
    b"[.5]",
    b"[1.]",
    b"[1.e5]",
    b"[1e]",
    b"[1e+]",
    b"[-]",
    b"[0x10]",
    b"[1_000]",
    b"[nan]",
    b"[-NaN]",
    b"[+Infinity]",
    b"[Inf]",
    b"[-Infinit]",
    b"[True]",
    b"[nul]",
    b"[nullx]",
    b"[\"a",
    b"[\"a\\\"]",
    b"[\"\\x41\"]",
    b"[\"\\u12\"]",
    b"[\"\\u+123\"]",
    b"[\"\\a\"]",
    b"[\"\n\"]",
    b"[\"\0\"]",
    b"[\"\xFF\"]",
    b"[\"\xC0\x80\"]",
    b"[\"\xF4\x90\x80\x80\"]",
    b"[\"\xE2\x82\"]",
    b"\xEF\xBB\xBF\xEF\xBB\xBF[1]",
    b"\x0C[1]",
    b"\xC2\xA0[1]",
    b"[1]\0",
    b"\xFF\xFE[\x001\x00]",
];

/// A body as the whole-document pointer reads it.
fn whole(body: &[u8]) -> Result<Features, NotInspected> {
    let parameters = serde_json::json!({ "features": "", "predictions": "" });
    let decoder = (generic::SPEC.build)(&parameters).expect("the empty pointer builds");
    decoded(decoder.as_ref(), &HeaderMap::new(), Part::Question, body)
}

#[test]
fn what_python_reads_is_read() {
    for (body, expected) in READ {
        let case = String::from_utf8_lossy(body);
        let features = whole(body).unwrap_or_else(|reason| panic!("{case:?} is refused: {reason:?}"));
        assert_eq!(printed_cell(&features, features.cells[0]), *expected, "{case:?}");
        assert_consistent(&features, body, &case);
    }
}

#[test]
fn what_python_refuses_is_unparsable() {
    for body in REFUSED {
        assert_eq!(whole(body), Err(NotInspected::Unparsable), "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn depth_is_refused_without_recursion() {
    let nested = |depth: usize| [b"[".repeat(depth), b"1".to_vec(), b"]".repeat(depth)].concat();
    assert!(whole(&nested(json::DEPTH_MAX)).is_ok(), "the deepest document that is read");
    assert_eq!(whole(&nested(json::DEPTH_MAX + 1)), Err(NotInspected::TooDeep));
    assert_eq!(whole(&b"[".repeat(2_000_000)), Err(NotInspected::TooDeep));
    assert_eq!(whole(&b"{\"a\":".repeat(2_000_000)), Err(NotInspected::TooDeep));
}

#[test]
fn rows_without_a_common_key_do_not_grow_with_the_square_of_the_body() {
    let rows: Vec<String> = (0..400).map(|row| format!(r#"{{"k{row}":1}}"#)).collect();
    let body = format!("[{}]", rows.join(","));
    let parameters = serde_json::json!({ "features": "", "predictions": "" });
    let decoder = (generic::SPEC.build)(&parameters).expect("the empty pointer builds");
    let headers = HeaderMap::new();
    let head = Head { headers: &headers, part: Part::Question, rows_max: 1000, columns_max: 1000 };
    let refusal = decoder.decode(&head, body.as_bytes(), &mut Features::default());
    assert_eq!(refusal, Err(NotInspected::TooWide));
}
