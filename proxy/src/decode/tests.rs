//! Rules that hold for every decoder of the list, and the folders of captured bodies.
//!
//! A case is `<case>.question.json` and `<case>.answer.json` (`.bin` where a protocol is not text), either or both, with
//! what must be read from them in `<case>.expected`. Headers of a case stand in `<case>.head`, parameters in `<case>.parameters`.
//! `UPDATE_GOLDEN=1` writes the expectations anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use checkgate_detectors::facts::Cell;
use http::Method;

use super::*;

mod properties;
mod python;

/// Small, so that a short body can pass them.
const ROWS_MAX: usize = 4;
const COLUMNS_MAX: usize = 8;

const PARTS: [(Part, &str); 2] = [(Part::Question, "question"), (Part::Answer, "answer")];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/decode")
}

fn built(spec: &DecoderSpec) -> Box<dyn Decoder> {
    (spec.build)(&(spec.defaults)()).expect("defaults build")
}

fn decoded(
    decoder: &dyn Decoder,
    headers: &HeaderMap,
    part: Part,
    body: &[u8],
) -> Result<Features, NotInspected> {
    let head = Head { headers, part, rows_max: ROWS_MAX, columns_max: COLUMNS_MAX };
    let mut out = Features::default();
    decoder.decode(&head, body, &mut out).map(|()| out)
}

/// What every decoded body must keep, whatever stands in it.
fn assert_consistent(features: &Features, body: &[u8], case: &str) {
    assert!(features.rows() <= ROWS_MAX, "{case}: more rows than the cap");
    assert!(features.width <= COLUMNS_MAX, "{case}: more columns than the cap");
    assert_eq!(features.cells.len(), features.rows() * features.width, "{case}: rows are whole");
    assert!(features.names.len() <= features.width, "{case}: more names than columns");
    assert!(features.spans.is_empty() || features.spans.len() == features.cells.len(), "{case}: spans");
    for (cell, span) in features.cells.iter().zip(&features.spans) {
        assert_cell_stands_at(*cell, &body[span.start..span.end], case);
    }
}

fn assert_cell_stands_at(cell: Cell, source: &[u8], case: &str) {
    let source = String::from_utf8_lossy(source);
    match cell {
        Cell::Number(number) => {
            let read = match source.as_ref() {
                "true" => 1.0,
                "false" => 0.0,
                _ => source.trim_matches('"').trim().parse().expect("a span cuts out exactly its number"),
            };
            assert!(
                number == read || (number.is_nan() && f64::is_nan(read)),
                "{case}: {number} at {source:?}"
            );
        }
        Cell::Text(..) => assert!(source.starts_with('"') && source.ends_with('"'), "{case}: {source:?}"),
        Cell::Missing => assert!(matches!(source.as_ref(), "null" | ""), "{case}: missing at {source:?}"),
    }
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<&str> = DECODERS.iter().map(|spec| spec.name).collect();
    assert_eq!(names.len(), DECODERS.len());
}

#[test]
fn defaults_build_and_unknown_parameters_are_refused() {
    for spec in DECODERS {
        let mut parameters = (spec.defaults)();
        assert!((spec.build)(&parameters).is_ok(), "{}: its own defaults", spec.name);
        assert!((spec.schema)().as_value().is_object(), "{}: has a schema", spec.name);
        parameters["no_such_parameter"] = Value::Bool(true);
        let refusal = (spec.build)(&parameters).err().expect("an unknown parameter is refused");
        assert!(refusal.message.contains("no_such_parameter"), "{}: {refusal}", spec.name);
    }
}

#[test]
fn a_version_is_what_the_path_of_a_question_names_or_else_its_answer() {
    let version = |path: &str, body: &str| {
        let mut question = Features { version: body.to_owned(), ..Features::default() };
        note_version(path, &mut question);
        question.version
    };
    assert_eq!(version("/v2/models/pricing/versions/3/infer", ""), "3");
    assert_eq!(version("/v2/models/pricing/versions/%33/infer", ""), "3", "as servers read it");
    assert_eq!(version("/v2/models/pricing/infer", ""), "", "any may answer");
    assert_eq!(version("/inference.GRPCInferenceService/ModelInfer", "4"), "4", "the message says it");
    let body = br#"{"model_name": "pricing", "model_version": "2", "outputs":
        [{"name": "price", "shape": [1], "datatype": "FP64", "data": [1.5]}]}"#;
    let decoder = (spec("oip_v2").unwrap().build)(&serde_json::json!({})).unwrap();
    for (part, said) in [(Part::Answer, "2"), (Part::Question, "")] {
        let head = Head { headers: &HeaderMap::new(), part, rows_max: 9, columns_max: 9 };
        let body = String::from_utf8_lossy(body);
        let body = if part == Part::Question { body.replace("outputs", "inputs") } else { body.into_owned() };
        let mut out = Features::default();
        decoder.decode(&head, body.as_bytes(), &mut out).unwrap();
        assert_eq!(out.version, said, "{part:?}");
    }
}

#[test]
fn every_path_is_claimed_by_at_most_one_decoder() {
    let cases = [
        ("/v2/models/pricing/infer", Some(("oip_v2", Some("pricing")))),
        ("/v2/models/pricing/versions/3/infer", Some(("oip_v2", Some("pricing")))),
        ("/%76%32/models/pricing/%69nfe%72", Some(("oip_v2", Some("pricing")))),
        ("/v2/models/a%20b/infer", Some(("oip_v2", Some("a%20b")))),
        ("/v2/models//infer", None),
        ("/v2/models/pricing", None),
        ("/v2/models/pricing/ready", None),
        ("/v2/models/pricing/versions/3", None),
        ("/v2/models/pricing/versions/3/infer/4", None),
        ("/v2/models/pricing/other/3/infer", None),
        ("/V2/models/pricing/infer", None),
        ("v2/models/pricing/infer", None),
        ("/invocations", Some(("mlflow", None))),
        ("/%69nvocations", Some(("mlflow", None))),
        ("/invocations2", None),
        ("/inference.GRPCInferenceService/ModelInfer", Some(("oip_grpc", None))),
        ("/inference.GRPCInferenceService/ModelStreamInfer", None),
        ("/%6", None),
        ("/", None),
        ("", None),
    ];
    for (path, expected) in cases {
        let claimants = DECODERS.iter().filter(|spec| (spec.claim)(&Method::POST, path).is_some());
        assert_eq!(claimants.count(), usize::from(expected.is_some()), "{path}");
        let claimed =
            claim(&Method::POST, path).map(|(at, claim)| (DECODERS[usize::from(at)].name, claim.model));
        assert_eq!(claimed, expected, "{path}");
        assert_eq!(claim(&Method::GET, path), None, "only a POST is claimed: {path}");
    }
}

#[test]
fn what_is_kept_goes_by_the_names_that_are_listed() {
    assert_eq!(KEPT_HEADERS.each_ref().map(HeaderName::as_str), KEPT_NAMES);
}

#[test]
fn a_capture_keeps_every_line_that_a_decoder_needs() {
    let mut headers = HeaderMap::new();
    headers.append("content-type", HeaderValue::from_static("application/json"));
    headers.append("content-type", HeaderValue::from_bytes(b"text/\xFF").expect("opaque bytes may stand"));
    headers.append("inference-header-content-length", HeaderValue::from_static("8"));
    headers.append("cookie", HeaderValue::from_static("secret"));
    let kept = kept_headers(&keep_headers(&headers, Part::Question));
    assert_eq!(kept.get_all("content-type").iter().count(), 2, "a repeated header stays repeated");
    assert!(kept.contains_key(oip_v2::BINARY_HEADER));
    assert_eq!(kept.len(), 3, "nothing else is kept");
    let refusal = decoded(built(&generic::SPEC).as_ref(), &kept, Part::Question, b"{\"features\":[1]}");
    assert_eq!(refusal, Err(NotInspected::MediaType), "a line that is no text is not forgotten");
}

#[test]
fn a_bad_pointer_is_refused_under_its_key() {
    let cases = [
        ("features", "no slash"),
        ("features", "/~"),
        ("features", "/a~2"),
        ("predictions", "/a/*/b/*"),
        ("predictions", "*"),
    ];
    for (key, pointer) in cases {
        let parameters = serde_json::json!({ key: pointer });
        let refusal = (generic::SPEC.build)(&parameters).err().expect("the pointer is refused");
        assert_eq!(refusal.path, [key], "{pointer}");
        assert!(refusal.message.contains(pointer), "{refusal}");
    }
}

#[test]
fn captured_bodies_are_read_as_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for spec in DECODERS {
        let folder = fixtures().join(spec.name);
        for (case, report) in reports(spec, &folder) {
            let golden = folder.join(format!("{case}.expected"));
            if update {
                fs::write(&golden, &report).expect("the expectation can be written");
            }
            let expected = fs::read_to_string(&golden).unwrap_or_default();
            assert_eq!(report, expected, "{}/{case}: set UPDATE_GOLDEN=1 if the change is meant", spec.name);
        }
    }
}

#[test]
fn every_decoder_has_captured_bodies() {
    for (spec, cases_min) in DECODERS.iter().zip([25, 15, 10, 15]) {
        let cases = reports(spec, &fixtures().join(spec.name)).len();
        assert!(cases >= cases_min, "{}: {cases} cases", spec.name);
    }
}

/// What a decoder reads from each case of its folder, as text.
fn reports(spec: &DecoderSpec, folder: &Path) -> BTreeMap<String, String> {
    let mut reports: BTreeMap<String, String> = BTreeMap::new();
    for (part, part_name) in PARTS {
        for (case, body) in bodies(folder, part_name) {
            let decoder = decoder_of(spec, folder, &case);
            let decoded = decoded(decoder.as_ref(), &headers_of(folder, &case), part, &body);
            if let Ok(features) = &decoded {
                assert_consistent(features, &body, &case);
            }
            let report = reports.entry(case).or_default();
            let _ = writeln!(report, "{part_name}\n{}", printed(decoded));
        }
    }
    reports
}

fn bodies(folder: &Path, part: &str) -> Vec<(String, Vec<u8>)> {
    let endings = [format!(".{part}.json"), format!(".{part}.bin")];
    let paths =
        fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let case = |path: &Path| {
        let name = path.file_name()?.to_str()?;
        endings.iter().find_map(|ending| name.strip_suffix(ending)).map(str::to_owned)
    };
    paths.filter_map(|path| Some((case(&path)?, fs::read(&path).expect("the body can be read")))).collect()
}

fn decoder_of(spec: &DecoderSpec, folder: &Path, case: &str) -> Box<dyn Decoder> {
    match fs::read_to_string(folder.join(format!("{case}.parameters"))) {
        Ok(text) => {
            let parameters = serde_json::from_str(&text).expect("parameters are JSON");
            (spec.build)(&parameters).expect("the case's parameters build")
        }
        Err(_) => built(spec),
    }
}

fn headers_of(folder: &Path, case: &str) -> HeaderMap {
    let lines = fs::read_to_string(folder.join(format!("{case}.head"))).unwrap_or_default();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
    };
    lines.lines().map(|line| header(line).expect("a header line")).collect()
}

fn printed(decoded: Result<Features, NotInspected>) -> String {
    match decoded {
        Err(reason) => format!("not inspected: {}\n", reason.as_str()),
        Ok(features) => printed_rows(&features),
    }
}

fn printed_rows(features: &Features) -> String {
    let mut text = format!("rows: {} of {} columns", features.rows(), features.width);
    let place = if features.spans.is_empty() { "without spans" } else { "with spans" };
    let _ =
        writeln!(text, ", {place}, {} rows over\nnames: {:?}", features.rows_over, printed_names(features));
    for row in 0..features.rows() {
        let cells: Vec<String> = features.row(row).iter().map(|cell| printed_cell(features, *cell)).collect();
        let _ = writeln!(text, "  {}", cells.join(" | "));
    }
    text
}

fn printed_names(features: &Features) -> Vec<String> {
    features.names.iter().map(|name| name.to_string()).collect()
}

fn printed_cell(features: &Features, cell: Cell) -> String {
    match cell {
        Cell::Missing => "missing".to_owned(),
        Cell::Number(number) => format!("{number:?}"),
        Cell::Text(start, end) => format!("text {:?}", features.text_of(start, end)),
    }
}
