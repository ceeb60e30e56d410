//! Every string of the Big List of Naughty Strings, as a client's key, as a model's name and as a value that is quoted,
//! through every sink on the list in every form that it has: what the form's own reader reads is what was sent.
//!
//! A sink that sends JSON is held by being on the list. One with a form of its own fails here until [`read_plain`] can
//! read it.

use std::collections::BTreeMap;
use std::time::Duration;

use naughty_strings::BLNS;
use tokio::time::{Instant, sleep, timeout};

use super::drill::{Receiver, aimed};
use super::*;
use crate::clock;
use crate::sinks::render::{cef, cut, leef, syslog};
use crate::told::clean::tests::read_back;

/// Parameters with a choice that changes how a message travels, and nothing of what it says.
const ROADS: [&str; 2] = ["facility", "transport"];
/// Bytes of a text from which on it stands in one place of an event only, so that a syslog message has room for it.
const LONG: usize = 300;
/// Bytes of a text that every shortened form keeps.
const KEPT: usize = 64;

/// What a receiver read of one event.
#[derive(Default)]
struct Got {
    /// Every text, as its format's own reader gives it.
    texts: Vec<String>,
    /// Texts of the head that stands in front of it, where there is one.
    head: Option<Vec<String>>,
    shortened: bool,
}

fn event(number: u64, what: What) -> Event {
    let entry = Entry { number, time: clock::now(), by: By::itself(), what };
    Event::of(&entry, &Hash([7; 32]), "cg-0123456789abcdef", None)
}

/// A record about a client by its key, and one about a client by its address, whose decision a bouncer could enforce.
fn about(number: u64, [client, model, value]: [&str; 3]) -> [Event; 2] {
    let mut told: Value = serde_json::from_str(&record("prices")).unwrap();
    told["client"] = format!("key:{client}").into();
    told["model"] = model.into();
    told["fields"] = json!([value]);
    told["explanation"] = format!("it answered \"{value}\" again").into();
    told.as_object_mut().unwrap().remove("decision_id");
    let evidence: Arc<str> = told.to_string().into();
    let taken = Decided {
        evidence: Arc::clone(&evidence),
        model: Some(model.into()),
        until: Time(clock::now().0 + 3_600_000_000),
        ..decided(7)
    };
    [
        event(2 * number, What::Finding { record: evidence }),
        event(2 * number + 1, What::Decision(Box::new(taken))),
    ]
}

fn naughty() -> Vec<Event> {
    let places = |text: &'static str| match text.len() {
        ..LONG => vec![[text, text, text]],
        _ => vec![[text, "prices", "7"], ["0a1b", text, "7"], ["0a1b", "prices", text]],
    };
    let all = BLNS.iter().flat_map(|text| places(text));
    (1..).zip(all).flat_map(|(number, places)| about(number, places)).collect()
}

/// A sink's example, and that with every choice of every parameter that has choices.
fn forms(spec: &SinkSpec) -> Vec<Value> {
    let schema = Schema::to_value((spec.schema)());
    let plain = example(spec);
    let mut forms = vec![plain.clone()];
    for (name, property) in schema["properties"].as_object().unwrap() {
        for choice in choices(&schema, property).filter(|_| !ROADS.contains(&name.as_str())) {
            let mut form = plain.clone();
            form[name] = choice;
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

fn choices<'s>(schema: &'s Value, property: &'s Value) -> impl Iterator<Item = Value> + 's {
    let named = property["$ref"].as_str().and_then(|name| schema.pointer(name.strip_prefix('#')?));
    let of = named.unwrap_or(property);
    let listed = of["enum"].as_array().into_iter().flatten().cloned();
    let told = of["oneOf"].as_array().into_iter().flatten();
    listed.chain(told.flat_map(|one| {
        let one_of = one["enum"].as_array().into_iter().flatten().cloned();
        one_of.chain(one.get("const").cloned())
    }))
}

/// Every text in a JSON value.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(keys) => keys.values().for_each(|value| texts(value, into)),
        _ => {}
    }
}

/// The id of an event among texts.
fn id(texts: &[String]) -> Option<String> {
    let is_id = |text: &&String| text.starts_with("cg-0123456789abcdef-") && text.ends_with("-07070707");
    texts.iter().find(is_id).cloned()
}

/// A body of JSON: one value or several, each or each of their items an event.
fn read_json(head: &str, body: &[u8], got: &mut BTreeMap<String, Got>) {
    let attribute = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        name.to_ascii_lowercase().starts_with("ce-").then(|| percent_decoded(value))
    };
    let attributes: Vec<String> = head.lines().filter_map(attribute).collect();
    for value in serde_json::Deserializer::from_slice(body).into_iter::<Value>() {
        let Ok(value) = value else {
            let text = String::from_utf8_lossy(body);
            assert!(
                !text.contains("cg-0123456789abcdef-"),
                "the reader of this form is missing here: {text}"
            );
            return;
        };
        let items = value.as_array().cloned().unwrap_or_else(|| vec![value]);
        for item in items {
            let mut read = Vec::new();
            texts(&item, &mut read);
            let Some(id) = id(&read).or_else(|| id(&attributes)) else { continue };
            let one = got.entry(id).or_default();
            one.shortened |= item.to_string().contains("\"shortened\":true");
            one.texts.append(&mut read);
            one.texts.extend(attributes.iter().cloned());
        }
    }
}

/// As the HTTP binding of CloudEvents has it, 3.1.3.2.
fn percent_decoded(value: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), value);
    while let Some(letter) = rest.chars().next() {
        if letter == '%' {
            bytes.push(u8::from_str_radix(&rest[1..3], 16).unwrap());
            rest = &rest[3..];
        } else {
            bytes.push(letter as u8);
            rest = &rest[1..];
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Messages of syslog, with a count in front of each or a line feed behind.
fn read_plain(bytes: &[u8], got: &mut BTreeMap<String, Got>) {
    let mut rest = std::str::from_utf8(bytes).expect("it is UTF-8, or its reader stands in this file");
    while !rest.is_empty() {
        let counted = rest.split_once(' ').and_then(|(count, rest)| Some((count.parse().ok()?, rest)));
        let split = match counted {
            Some((count, rest)) if count <= rest.len() => Some(rest.split_at(count)),
            Some(_) => None,
            None => rest.split_once('\n'),
        };
        let Some((message, after)) = split else { return };
        read_message(message, got);
        rest = after;
    }
}

fn read_message(message: &str, got: &mut BTreeMap<String, Got>) {
    let (_, data, body) = syslog::tests::read(message);
    let one = got.entry(data["id"].clone()).or_default();
    one.head = Some(data.into_values().map(|value| read_back(&value)).collect());
    let pairs = match body.split('|').next() {
        Some("CEF:0") => cef::tests::read(&body).1,
        Some("LEEF:2.0") => leef::tests::read(&body).1,
        _ => {
            let value: Value = serde_json::from_str(&body).expect("JSON, or its reader stands in this file");
            one.shortened = body.contains("\"shortened\":true");
            return texts(&value, &mut one.texts);
        }
    };
    one.texts.extend(pairs.into_values().map(|value| read_back(&value)));
}

/// What arrived once `count` events have, or nothing more comes.
async fn received(receiver: &Receiver, count: usize) -> BTreeMap<String, Got> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut got = BTreeMap::new();
        let requests = receiver.requests();
        requests.iter().for_each(|(head, body)| read_json(head, body, &mut got));
        if requests.is_empty() {
            read_plain(&receiver.bytes(), &mut got);
        }
        if got.len() >= count || Instant::now() > deadline {
            return got;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn holds(form: &str, event: &Event, got: &Got) {
    let said = |text: &Option<Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    let (client, model) = (said(&event.client), said(&event.model));
    let long = [&client, &model, &*event.explanation].iter().any(|text| text.len() >= LONG);
    assert!(!got.shortened || long, "{form} shortens a short event: {event:?}");
    for text in [&client, &model, &*event.explanation] {
        let whole = |read: &String| *read == *text || text.contains('"') && read.contains(text);
        let begun = |read: &String| read.starts_with(cut(text, KEPT)) && text.starts_with(read.as_str());
        let comes_back = got.texts.iter().any(whole) || got.shortened && got.texts.iter().any(begun);
        assert!(comes_back || text.is_empty(), "{form} does not give back {text:?}: {:?}", got.texts);
    }
    for text in [&client, &model] {
        let told = got.head.as_ref().is_none_or(|head| head.contains(text));
        assert!(told, "the head of {form} does not give back {text:?}: {:?}", got.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_naughty_string_comes_back_from_every_sink_in_every_form() {
    let all = naughty();
    for spec in SINKS {
        for parameters in forms(spec) {
            let form = format!("{} as {parameters}", spec.name);
            let receiver = Receiver::new(0).await;
            let sink = built(spec, &aimed(&parameters, receiver.address));
            let sink = sink.unwrap_or_else(|error| panic!("{form}: {error:?}"));
            let taken: Vec<Event> = all.iter().filter(|event| sink.takes(event)).cloned().collect();
            assert!(taken.len() >= BLNS.len(), "{form} takes {} events", taken.len());
            for batch in taken.chunks(sink.bounds().events.min(50)) {
                let sent = timeout(Duration::from_secs(20), sink.send(batch)).await;
                sent.unwrap().unwrap_or_else(|error| panic!("{form}: {error}"));
            }
            let got = received(&receiver, taken.len()).await;
            for event in &taken {
                let one = got.get(&*event.id).unwrap_or_else(|| panic!("{form} did not deliver {event:?}"));
                holds(&form, event, one);
            }
        }
    }
}

#[test]
fn every_choice_of_form_is_tried() {
    let formats = |name: &str, key: &str| {
        let forms = forms(super::super::spec(name).unwrap());
        forms.iter().filter_map(|form| form[key].as_str()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    assert_eq!(formats("syslog", "format"), ["cef", "json", "leef", "ocsf"].map(str::to_owned).into());
    assert_eq!(formats("syslog", "framing"), ["lines", "octets"].map(str::to_owned).into());
    assert_eq!(formats("cloudevents", "mode"), ["binary", "structured"].map(str::to_owned).into());
}
