//! The work of one exchange, part by part and over and over, for whoever counts instructions or takes the time.
//!
//! ```text
//! instructions list                  the cases
//! instructions run CASE TIMES        for callgrind: only what `counted` calls is to be counted
//! instructions time CASE TIMES       nanoseconds of each, by this machine's clock
//! ```
//!
//! Bodies, rows and clients are drawn from fixed seeds, so that two runs of one program do the same work.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use checkgate::screen::http1::{Bounds, Http1};
use checkgate::workbench::Reader;
use checkgate_detectors::contract::{Contract, Rule};
use checkgate_detectors::drift;
use checkgate_detectors::engine::{Build, Drift, Engine, Limits, Outbox};
use checkgate_detectors::facts::{Answered, Asked, Features, Question, Time};
use checkgate_detectors::finding::{Action, Mode};
use checkgate_detectors::identity::{Address, Asker, Standing};
use checkgate_detectors::policy::Policy;
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::{Reference, Trust};

/// Bodies that a case takes in turn: enough that a branch predictor cannot learn them by heart.
const BODIES: usize = 32;
/// Rows of the reference that observing is measured with: the window that the goals name.
const REFERENCE_ROWS: usize = 1000;
/// Exchanges before the first counted one; after them every table of the engine has its usual shape.
const WARM_UP: u64 = 2000;
/// The same for rows of 96 columns to fill the memory of lines, which they do after 2,390.
const FULL_WARM_UP: u64 = 2500;
/// Rows that a reference of drift is learned from.
const WARM_UP_ROWS: u32 = 1000;
/// Clients that ask in turn.
const CLIENTS: u64 = 50;

/// A kind of work with what it works on.
enum Case {
    Screen(Vec<u8>),
    Question(usize),
    Answer,
    Observe(usize),
    /// The same once lines make room for lines.
    Full(usize),
    /// The first of these with drift watched by a reference that the first exchanges taught.
    Watch(usize),
}

/// Part, name and work of every case. What is committed refers to part and name.
fn cases() -> Vec<(&'static str, &'static str, Case)> {
    vec![
        ("screen", "head-200", Case::Screen(short_head())),
        ("screen", "head-python", Case::Screen(python_head())),
        ("decode", "question-10", Case::Question(10)),
        ("decode", "question-104", Case::Question(104)),
        ("decode", "question-1090", Case::Question(1090)),
        ("decode", "answer-1", Case::Answer),
        ("observe", "row-10", Case::Observe(10)),
        ("observe", "row-96", Case::Observe(96)),
        ("observe", "row-104", Case::Observe(104)),
        ("observe", "row-96-full", Case::Full(96)),
        ("watch", "row-10", Case::Watch(10)),
        ("watch", "row-104", Case::Watch(104)),
    ]
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["list"] => list(),
        ["run", case, times] => work(case, times).map(drop),
        ["time", case, times] => work(case, times).and_then(|each| say(&format!("{case}\t{each:.0} ns"))),
        _ => bail!("usage: instructions list | run CASE TIMES | time CASE TIMES"),
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn list() -> anyhow::Result<()> {
    cases().iter().try_for_each(|(part, name, _)| say(&format!("{part}/{name}")))
}

/// Does a case's work `times` over and gives the nanoseconds of each.
fn work(wanted: &str, times: &str) -> anyhow::Result<f64> {
    let times: u64 = times.parse().context("TIMES is a whole number")?;
    let case = cases().into_iter().find(|(part, name, _)| format!("{part}/{name}") == wanted);
    let spent = match case.context("no such case; `instructions list` names them")?.2 {
        Case::Screen(head) => screen(&head, times)?,
        Case::Question(width) => questions(width, times)?,
        Case::Answer => answers(times)?,
        Case::Observe(width) => observe(width, None, WARM_UP, times)?,
        Case::Full(width) => observe(width, None, FULL_WARM_UP, times)?,
        Case::Watch(width) => observe(width, Some(watched()), WARM_UP, times)?,
    };
    Ok(spent.as_nanos() as f64 / times.max(1) as f64)
}

/// Does some work and adds the time that it took to `spent`.
fn timed<R>(work: impl FnOnce() -> R, spent: &mut Duration) -> R {
    let started = Instant::now();
    let result = counted(work);
    *spent += started.elapsed();
    result
}

/// The one function whose instructions count, inclusive of what it calls. Never inlined, so that its name stands in
/// the profile.
#[inline(never)]
fn counted<R>(work: impl FnOnce() -> R) -> R {
    black_box(work())
}

fn screen(head: &[u8], times: u64) -> anyhow::Result<Duration> {
    let mut spent = Duration::ZERO;
    let mut connection = Http1::new(Bounds { head_bytes: 64 * 1024, header_lines: 256 });
    for _ in 0..times {
        let read = timed(|| connection.read(black_box(head)), &mut spent);
        if let Err(bad) = read {
            bail!("the screen refuses a clean head: {bad:?}");
        }
    }
    Ok(spent)
}

fn questions(width: usize, times: u64) -> anyhow::Result<Duration> {
    let mut random = Random(width as u64);
    let bodies: Vec<String> = (0..BODIES).map(|_| question(width, &mut random)).collect();
    decode(&bodies, times, |reader, body| reader.question(body).map(Features::rows).ok())
}

fn answers(times: u64) -> anyhow::Result<Duration> {
    let mut random = Random(1);
    let bodies: Vec<String> = (0..BODIES).map(|_| answer(&mut random)).collect();
    decode(&bodies, times, |reader, body| reader.answer(body).map(Features::rows).ok())
}

fn decode(
    bodies: &[String],
    times: u64,
    read: impl Fn(&mut Reader, &[u8]) -> Option<usize>,
) -> anyhow::Result<Duration> {
    let mut reader = Reader::of("oip_v2").context("no reader")?;
    let mut spent = Duration::ZERO;
    for body in bodies {
        read(&mut reader, body.as_bytes()).context("a body cannot be read")?;
    }
    for body in bodies.iter().cycle().take(usize::try_from(times)?) {
        timed(|| read(&mut reader, black_box(body.as_bytes())), &mut spent);
    }
    Ok(spent)
}

fn observe(width: usize, drift: Option<Drift>, warm_up: u64, times: u64) -> anyhow::Result<Duration> {
    let mut random = Random(width as u64);
    let mut engine = engine(width, drift, &mut random)?;
    let (mut rows, mut predictions) = (reader()?, reader()?);
    let (mut out, mut spent) = (Outbox::default(), Duration::ZERO);
    for id in 0..warm_up + times {
        if id == warm_up {
            spent = Duration::ZERO;
        }
        let (question, answer) = (question(width, &mut random), answer(&mut random));
        let row = rows.question(question.as_bytes()).map_err(|reason| anyhow::anyhow!("{reason:?}"))?;
        let price = predictions.answer(answer.as_bytes()).map_err(|reason| anyhow::anyhow!("{reason:?}"))?;
        let (asked, answered) = (asked(id, row), answered(id, price));
        let mut exchange = || {
            out.clear();
            engine.asked(&asked, &mut out);
            engine.answered(&answered, &mut out);
        };
        if id < warm_up {
            exchange();
        } else {
            timed(exchange, &mut spent);
        }
        if !out.records.is_empty() {
            bail!("honest traffic led to {:?}", out.records);
        }
    }
    Ok(spent)
}

fn reader() -> anyhow::Result<Reader> {
    Reader::of("oip_v2").context("no reader")
}

/// Learned from fewer rows than by default, so that it is there before the first counted exchange.
fn watched() -> Drift {
    let settings = drift::room::Settings { warm_up_rows: WARM_UP_ROWS, ..drift::room::Settings::default() };
    Drift { settings, ..Drift::default() }
}

/// An engine with every detector at its defaults, a reference of the operator's and a contract.
fn engine(width: usize, drift: Option<Drift>, random: &mut Random) -> anyhow::Result<Engine> {
    let at_least_0 = Rule { minimum: Some(0.0), ..Rule::default() };
    Ok(Engine::new(Build {
        model: "pricing".into(),
        hash_key: [1, 2],
        detectors: QUERY.iter().map(|spec| (spec.name.to_owned(), (spec.defaults)())).collect(),
        contract: Contract { rules: vec![at_least_0], ..Contract::default() },
        contract_action: Action::Refuse,
        policy: Policy { mode: Mode::Enforce, ..Policy::default() },
        reference: Some(reference(width, random)?),
        drift,
        limits: Limits { clients: 10_000, open_questions: 4096, new_keys_per_address: 20 },
    })?)
}

fn reference(width: usize, random: &mut Random) -> anyhow::Result<Reference> {
    let names: Vec<String> = (0..width).map(|column| format!("\"input[{column}]\"")).collect();
    let mut lines = format!("{{\"features\":[{}]}}\n", names.join(","));
    for _ in 0..REFERENCE_ROWS {
        writeln!(lines, "{{\"x\":[{}],\"p\":[1.0]}}", numbers(width, random))?;
    }
    Ok(Reference::from_json_lines(&lines, Trust::Trusted)?)
}

fn asker(id: u64) -> Asker {
    let client = u8::try_from(id % CLIENTS).unwrap_or_default();
    Asker {
        address: Address::of(Ipv4Addr::new(198, 51, 100, client).into()),
        standing: Standing::Declared,
        key: None,
        keys_verified: false,
    }
}

/// A question every 10 ms.
fn time(id: u64) -> Time {
    Time(1_000_000_000 + id * 10_000)
}

fn asked(id: u64, row: &Features) -> Asked<'_> {
    Asked { id, time: time(id), asker: asker(id), bytes: 1000, question: Question::Rows(row) }
}

fn answered(id: u64, price: &Features) -> Answered<'_> {
    Answered {
        id,
        time: time(id).plus(Duration::from_millis(1)),
        asker: asker(id),
        status: 200,
        bytes: 250,
        latency: Duration::from_millis(1),
        answer: Ok(price),
        judged: None,
    }
}

fn question(width: usize, random: &mut Random) -> String {
    format!(
        r#"{{"inputs": [{{"name": "input", "shape": [1, {width}], "datatype": "FP32", "data": [{}]}}]}}"#,
        numbers(width, random)
    )
}

fn answer(random: &mut Random) -> String {
    format!(
        r#"{{"model_name":"pricing","model_version":"1","id":"5c8a7f0e-9d1b-4b7e-8a53-2f4f1f2f7d11","parameters":{{}},"outputs":[{{"name":"price","shape":[1,1],"datatype":"FP64","parameters":{{"content_type":"np"}},"data":[{:.4}]}}]}}"#,
        100.0 * (1.0 + random.unit())
    )
}

/// Numbers around 0 with seven decimals, as scaled features are sent.
fn numbers(count: usize, random: &mut Random) -> String {
    let mut text = String::new();
    for position in 0..count {
        let separator = if position == 0 { "" } else { ", " };
        let bell = (0..4).map(|_| random.unit()).sum::<f64>() - 2.0;
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{bell:.5}");
    }
    text
}

/// 200 bytes, as a client in C writes it.
fn short_head() -> Vec<u8> {
    let mut head =
        "GET /v2/models/pricing/ready HTTP/1.1\r\nHost: models.example.com\r\nAccept: application/json\r\n\
                    User-Agent: curl/8.5.0\r\nX-Request-Id: 5c8a7f0e-9d1b-4b7e-8a53\r\nX-Padding: "
            .to_owned();
    while head.len() < 196 {
        head.push('x');
    }
    head.push_str("\r\n\r\n");
    head.into_bytes()
}

/// As `requests` for Python writes it; its body is empty, so that one head follows another.
fn python_head() -> Vec<u8> {
    b"POST /v2/models/pricing/infer HTTP/1.1\r\nHost: models.example.com:8765\r\n\
      User-Agent: python-requests/2.32.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept: */*\r\n\
      Connection: keep-alive\r\nContent-Type: application/json\r\n\
      Authorization: Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJwcmljaW5nIn0.c2lnbmF0dXJl\r\n\
      X-API-Key: 0c9a6e8c1f3c4d5e\r\nContent-Length: 0\r\n\r\n"
        .to_vec()
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    /// A number from 0 up to and without 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
