//! Every naughty string comes back from every form of a report, by that form's own reader.

use checkgate_detectors::finding::{Action, Kind, Mode, Record};
use naughty_strings::BLNS;
use serde_json::Value;

use super::*;
use crate::records::tests::record;
use crate::rehearse::report::{
    ClientVerdict, FindingLine, ModelSum, Outcome, Report, Told, Traffic, VERSION,
};
use crate::told::clean::steers;
use crate::told::clean::tests::read_back;

fn verdict(text: &str) -> ClientVerdict {
    let told = Told {
        time: 1_700_000_000.0,
        detector: "one_field_sweep".into(),
        model: text.into(),
        action: Action::Block,
        acts: true,
        until: None,
        id: "d-0000000000000007".into(),
        explanation: format!("it answered \"{text}\" again"),
    };
    ClientVerdict {
        client: format!("key:{text}"),
        outcome: Outcome::Blocked,
        severity: Severity::High,
        requests: 20,
        rows: 20,
        answered: 12,
        answered_before_decision: Some(12),
        refused: 8,
        degraded: 0,
        seconds_later: 0.0,
        refused_when_recorded: 0,
        first_request: 1_700_000_000.0,
        last_request: 1_700_000_020.0,
        findings: 1,
        first_finding: Some(told.clone()),
        decision: Some(told),
        events: vec![],
        events_not_shown: 0,
    }
}

fn report(text: &str) -> Report {
    let found = Record {
        model: text.into(),
        fields: vec![text.into()],
        explanation: format!("it answered \"{text}\" again"),
        ..record(Kind::Finding, 7)
    };
    let traffic = Traffic {
        recordings: vec!["monday".into()],
        clients: 1,
        from: 1_700_000_000.0,
        until: 1_700_000_020.0,
        models: [(text.to_owned(), ModelSum { mode: Mode::Enforce, ..ModelSum::default() })].into(),
        findings_by_severity: [(Severity::High, 1)].into(),
        verdicts: vec![verdict(text)],
        farthest: crate::farthest::tests::of(text, text),
        findings: vec![FindingLine::of(&found, Severity::High, true)],
        ..Traffic::default()
    };
    Report {
        version: VERSION,
        checkgate: "0.1.0",
        policy: Some("checkgate.yaml".into()),
        severity: Some(Severity::High),
        notes: vec![text.into()],
        traffic: Some(traffic),
        attacks: vec![],
        comparison: None,
        candidate: None,
    }
}

fn written(form: Form, text: &str) -> String {
    let written = form.write(&report(text), None).unwrap();
    assert!(!written.contains(|c| steers(c) && c != '\n'), "{form:?} of {text:?}: {written:?}");
    written
}

/// Names of elements in order, and every text and every attribute's value, as markup of HTML and XML has them.
pub(crate) fn markup(page: &str) -> (Vec<&str>, Vec<String>) {
    let (mut names, mut texts, mut rest) = (Vec::new(), Vec::new(), page);
    while let Some((text, after)) = rest.split_once('<') {
        texts.push(unescaped(text));
        let name = after.split(|c: char| " \n>".contains(c)).next().unwrap();
        names.push(name);
        let (mut quoted, mut value, mut end) = (false, String::new(), None);
        for (at, letter) in after.char_indices() {
            match (letter, quoted) {
                ('"', true) => texts.push(unescaped(&std::mem::take(&mut value))),
                ('>', false) => {
                    end = Some(at);
                    break;
                }
                (letter, true) => value.push(letter),
                _ => {}
            }
            quoted ^= letter == '"';
        }
        rest = &after[end.expect("an element ends") + 1..];
    }
    (names, texts)
}

fn unescaped(text: &str) -> String {
    let (mut said, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('&') {
        said.push_str(before);
        let (name, more) = after.split_once(';').expect("an entity ends");
        said.push_str(match name {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#39" => "'",
            other => panic!("{other:?} is no entity that is written here"),
        });
        rest = more;
    }
    read_back(&(said + rest))
}

#[test]
fn every_naughty_string_comes_back_from_markup_and_adds_none() {
    for form in [Form::Html, Form::Junit] {
        let plain = written(form, "prices");
        let elements = markup(&plain).0;
        for text in BLNS {
            let page = written(form, text);
            let (names, texts) = markup(&page);
            assert_eq!(names, elements, "{form:?} of {text:?}");
            for told in [format!("key:{text}"), format!("it answered \"{text}\" again")] {
                assert!(texts.contains(&told), "{told:?} is not in {form:?}: {texts:?}");
            }
            let model = format!("checkgate.clients.{text}");
            assert!(form == Form::Html || texts.contains(&model), "{model:?} is not in {texts:?}");
        }
    }
}

#[test]
fn every_naughty_string_comes_back_from_json_and_text() {
    for text in BLNS {
        let told = format!("it answered \"{text}\" again");
        let lines: Vec<String> = written(Form::Text, text).split('\n').map(read_back).collect();
        for line in [format!("  high    key:{text}  "), format!(", model {text}"), told.clone()] {
            assert!(lines.iter().any(|shown| shown.contains(&line)), "{line:?} is not in {lines:?}");
        }
        let read = |form| serde_json::from_str::<Value>(&written(form, text)).unwrap();
        let json = read(Form::Json);
        let traffic = &json["traffic"];
        assert_eq!(traffic["verdicts"][0]["client"], format!("key:{text}"));
        assert_eq!([&traffic["findings"][0]["model"], &traffic["findings"][0]["fields"][0]], [*text; 2]);
        assert_eq!(traffic["findings"][0]["explanation"], told);
        let title = format!("one_field_sweep on 192.0.2.7 at model {text}. {told}");
        let (sarif, gitlab) = (read(Form::Sarif), read(Form::Gitlab));
        let result = &sarif["runs"][0]["results"][0];
        for shown in [&result["message"]["text"], &gitlab[0]["description"]] {
            assert_eq!(read_back(shown.as_str().unwrap()), title);
        }
        let model = &result["locations"][0]["logicalLocations"][0]["name"];
        assert_eq!(read_back(model.as_str().unwrap()), *text);
    }
}

#[test]
fn every_naughty_string_comes_back_from_workflow_commands() {
    let decoded = |text: &str| {
        let codes = [("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")];
        read_back(&codes.iter().fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter)))
    };
    for text in BLNS {
        let commands = written(Form::Github, text);
        let lines: Vec<_> = commands.split_terminator('\n').collect();
        assert_eq!(lines.len(), 2, "a finding and the summary: {lines:?}");
        let (command, message) = lines[0].strip_prefix("::").unwrap().split_once("::").unwrap();
        let title = command.split_once(",title=").unwrap().1;
        assert!(command.starts_with("error file=checkgate.yaml,line=1,title="), "{command:?}");
        assert_eq!(decoded(title), format!("one_field_sweep on 192.0.2.7 at model {text}"));
        assert_eq!(decoded(message), format!("it answered \"{text}\" again"));
    }
}
