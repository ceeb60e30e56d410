//! The checks, each a judgement of what was seen.

use std::fmt::Write;

use checkgate_config::settings::{ClientIdentity, DecisionScope, Mode, Model};

use super::Answer;
use super::facts::{Facts, Running};

/// A day, in seconds.
const DAY: f64 = 86_400.0;
/// Observing for longer asks for a decision.
const OBSERVED_MAX: f64 = 14.0 * DAY;
/// A reference that is older may no longer be what normal looks like.
const REFERENCE_AGE_MAX: f64 = 90.0 * DAY;
/// A certificate that ends sooner is told.
const CERTIFICATE_LEFT_MIN: f64 = 30.0 * DAY;
/// Two clocks that differ by more, in seconds. A `Date` has whole seconds, and the answer took its time.
const CLOCK_DIFFERENCE_MAX: f64 = 5.0;
/// A step of the wall clock during the look, in seconds.
const STEP_MAX: f64 = 0.5;
/// Free bytes below which the ledger is about to stop being durable, and below which somebody should look.
const FREE_BYTES_LEAST: u64 = 64 << 20;
const FREE_BYTES_FEW: u64 = 1 << 30;
/// Requests with hops of an untrusted peer that are more than a scanner's.
const UNTRUSTED_HOPS_MANY: f64 = 100.0;

/// That the configuration holds, and what it is about.
pub fn config(facts: &Facts) -> Vec<Answer> {
    let models = facts.settings.models.len();
    let listeners = facts.settings.listen.len();
    vec![Answer::ok(format!("{} holds (models: {models}, listeners: {listeners})", facts.file.display()))]
}

/// Whether listeners can be opened, or are ours already.
pub fn ports(facts: &Facts) -> Vec<Answer> {
    let ours = !matches!(facts.running, Running::Silent);
    let judged = |port: &super::facts::Port| match &port.taken {
        None => Answer::ok(format!("{} is free", port.listen)),
        Some(_) if ours => Answer::ok(format!("{} is taken, and a checkgate runs here", port.listen)),
        Some(why) => Answer::fail(
            format!("{} cannot be opened: {why}", port.listen),
            "stop what listens there, or choose another port with listen or admin.listen",
        ),
    };
    facts.ports.iter().map(judged).collect()
}

/// Whether the admin API answers, and lets the holder of our token in.
pub fn admin(facts: &Facts) -> Vec<Answer> {
    let listen = facts.settings.admin.listen;
    vec![match &facts.running {
        Running::Silent => Answer::ok(format!("nobody answers on {listen}: no checkgate runs here")),
        Running::Answers { .. } => Answer::ok(format!("a checkgate answers on {listen}")),
        Running::Refuses(why) => Answer::fail(
            format!("a checkgate answers on {listen} and does not let us look: {why}"),
            "give its token with --token-file or CHECKGATE_ADMIN_TOKEN, or run this as the user that it runs as",
        ),
    }]
}

/// What a running checkgate says of itself.
pub fn running(facts: &Facts) -> Vec<Answer> {
    let Running::Answers { status, .. } = &facts.running else { return Vec::new() };
    let text = |path: &str| status.pointer(path).and_then(|value| value.as_str()).map(str::to_owned);
    let is = |path: &str| status.pointer(path).and_then(serde_json::Value::as_bool) == Some(true);
    let mut answers = Vec::new();
    if is("/kill_switch/on") {
        answers.push(Answer::warn("the kill switch is on: nothing is enforced", "checkgate kill-switch off"));
    }
    if is("/brake/engaged") {
        answers.push(Answer::warn(
            "the brake is on: new blocks are observations",
            "look at what was found; see CheckgateBrakeEngaged in docs/observability.md",
        ));
    }
    if let Some(error) = text("/config/error") {
        answers.push(Answer::fail(
            format!("the file was changed and is not in force: {error}"),
            "correct it; it is read again by itself",
        ));
    }
    let waiting = status.pointer("/config/needs_restart").and_then(|list| list.as_array());
    if let Some(waiting) = waiting.filter(|waiting| !waiting.is_empty()) {
        let names: Vec<_> = waiting.iter().filter_map(|name| name.as_str()).collect();
        answers.push(Answer::warn(
            format!("these settings wait for a restart: {}", names.join(", ")),
            "restart it, or start another with --take-over",
        ));
    }
    if !is("/ledger/durable") {
        let trouble = text("/ledger/trouble").unwrap_or_else(|| "it does not say why".to_owned());
        answers.push(Answer::fail(
            format!("the ledger is in memory only: {trouble}"),
            "make room on its disk, or let it write there; it heals by itself",
        ));
    }
    if facts.running.metric("checkgate_lanes_stuck", "").is_some_and(|stuck| stuck > 0.0) {
        answers.push(Answer::fail("a lane does not move", "see CheckgateLaneStuck in docs/observability.md"));
    }
    if answers.is_empty() {
        let version = text("/version").unwrap_or_default();
        let phase = text("/phase").unwrap_or_default();
        answers.push(Answer::ok(format!("checkgate {version} is {phase}")));
    }
    answers
}

/// Whether model servers answer.
pub fn upstream(facts: &Facts) -> Vec<Answer> {
    let judged = |server: &super::facts::Server| {
        let (path, for_health) = &server.path;
        let whose = format!("{} (model {})", server.url, server.model);
        match &server.looked {
            Err(why) => Answer::fail(
                format!("{whose} does not answer: {why}"),
                "start it, or correct its URL under upstream",
            ),
            Ok((status, _)) if *for_health && !(200..300).contains(status) => Answer::fail(
                format!("{whose} answers {status} to GET {path}, so health checks take it out"),
                "look at the server, or name another path with upstream.health.path",
            ),
            Ok((status, _)) if *status >= 500 => Answer::warn(
                format!("{whose} answers {status} to GET {path}"),
                "look at the server's log; with upstream.health, a failing server gets no requests",
            ),
            Ok((status, _)) => Answer::ok(format!("{whose} answers {status} to GET {path}")),
        }
    };
    facts.servers.iter().map(judged).collect()
}

/// Whether this machine's clock agrees with those of the servers, and stands on its own.
pub fn clock(facts: &Facts) -> Vec<Answer> {
    if facts.stepped.abs() > STEP_MAX {
        return vec![Answer::warn(
            format!("the wall clock was set by {:.1} s during this look", facts.stepped),
            "let chrony or systemd-timesyncd slew the clock; decisions keep their lengths all the same",
        )];
    }
    let differences = facts.servers.iter().filter_map(|server| {
        let date = server.looked.as_ref().ok()?.1?;
        Some((server, date - facts.now))
    });
    let farthest = differences.max_by(|(_, one), (_, other)| one.abs().total_cmp(&other.abs()));
    vec![match farthest {
        None => Answer::ok("it runs evenly; no server told its time"),
        Some((server, difference)) if difference.abs() > CLOCK_DIFFERENCE_MAX => Answer::warn(
            format!("{} is {:.0} s {} this machine", server.url, difference.abs(), ahead(difference)),
            "synchronise both clocks; findings and the servers' logs cannot be compared otherwise",
        ),
        Some((server, _)) => Answer::ok(format!("it runs evenly and agrees with {}", server.url)),
    }]
}

fn ahead(difference: f64) -> &'static str {
    if difference > 0.0 { "ahead of" } else { "behind" }
}

/// Whether as many connections can be open as the configuration says.
pub fn descriptors(facts: &Facts) -> Vec<Answer> {
    let affordable = facts.descriptors / 5 * 2;
    let wanted = facts.settings.limits.connections as u64;
    vec![if affordable < wanted {
        Answer::warn(
            format!(
                "{} open files allow {affordable} connections, limits.connections is {wanted}",
                facts.descriptors
            ),
            format!("raise the limit on open files to {} (LimitNOFILE=, ulimit -n)", wanted.div_ceil(2) * 5),
        )
    } else {
        Answer::ok(format!("{} open files are enough for {wanted} connections", facts.descriptors))
    }]
}

/// Whether the state folder keeps what it is given, and to itself.
pub fn state(facts: &Facts) -> Vec<Answer> {
    let (folder, seen) = (facts.settings.state.display(), &facts.state);
    let mut answers = Vec::new();
    if let Some(why) = &seen.unwritable {
        answers.push(Answer::fail(
            format!("{folder} cannot be written to: {why}"),
            "give the user that checkgate runs as the right to write there",
        ));
    }
    for (path, mode) in &seen.open_to_others {
        let path = path.display();
        answers.push(Answer::warn(
            format!("{path} is open to other users (mode {mode:03o})"),
            format!("chmod go= {path}"),
        ));
    }
    let mib = |bytes: u64| bytes >> 20;
    match seen.free_bytes {
        Some(free) if free < FREE_BYTES_LEAST => answers.push(Answer::fail(
            format!("{} MiB are free where {folder} lies", mib(free)),
            "make room; the ledger stops being durable without",
        )),
        Some(free) if free < FREE_BYTES_FEW => answers.push(Answer::warn(
            format!("{} MiB are free where {folder} lies", mib(free)),
            "make room, or lower ledger.bytes_max",
        )),
        _ => {}
    }
    if answers.is_empty() {
        let what = if seen.exists {
            "is private and can be written to"
        } else {
            "does not exist yet and can be made"
        };
        answers.push(Answer::ok(format!("{folder} {what}")));
    }
    answers
}

/// How old references are.
pub fn references(facts: &Facts) -> Vec<Answer> {
    let all = || facts.settings.models.iter().chain(&facts.settings.unclaimed);
    let mut answers: Vec<_> = facts
        .references
        .iter()
        .map(|reference| {
            let (age, model) = (facts.now - reference.changed, &reference.model);
            let days = (age / DAY).floor().max(0.0);
            if age > REFERENCE_AGE_MAX {
                Answer::warn(
                    format!("the reference of model {model} is {days} days old"),
                    "compare it with today's traffic, and make a new one where that has moved",
                )
            } else {
                Answer::ok(format!("the reference of model {model} is {days} days old"))
            }
        })
        .collect();
    let without = |model: &&Model| model.mode == Mode::Enforce && model.reference.is_none();
    answers.extend(all().filter(without).map(|model| {
        Answer::warn(
            format!("model {} is in enforce and names no reference", model.name),
            "name one with reference; what rests on a learned one alerts and never blocks",
        )
    }));
    if answers.is_empty() {
        answers.push(Answer::ok("no model names one; they are learned from the traffic"));
    }
    answers
}

/// How long certificates hold.
pub fn certificates(facts: &Facts) -> Vec<Answer> {
    let judged = |certificate: &super::facts::Certificate| {
        let (left, file) = (certificate.until - facts.now, certificate.file.display());
        let days = (left / DAY).floor();
        if left <= 0.0 {
            Answer::fail(
                format!("{file} has ended"),
                "put a new certificate in its place; it is read by itself",
            )
        } else if certificate.from > facts.now {
            Answer::fail(format!("{file} does not hold yet"), "look at the clock, or wait")
        } else if left < CERTIFICATE_LEFT_MIN {
            Answer::warn(
                format!("{file} ends in {days} days"),
                "put a new certificate in its place; it is read by itself",
            )
        } else {
            Answer::ok(format!("{file} holds for {days} days"))
        }
    };
    facts.certificates.iter().map(judged).collect()
}

/// Whether what is sent would arrive.
pub fn outlets(facts: &Facts) -> Vec<Answer> {
    let judged = |outlet: &super::facts::Outlet| match &outlet.trouble {
        None => Answer::ok(outlet.name.clone()),
        Some(why) => Answer::warn(
            format!("{}: {why}", outlet.name),
            "look at the receiver, or at the setting that names it",
        ),
    };
    facts.outlets.iter().map(judged).collect()
}

/// Whether a load balancer stands in front that nobody declared.
pub fn proxies(facts: &Facts) -> Vec<Answer> {
    let trusted = facts.settings.clients.trusted_proxies.len();
    let untrusted = facts.running.metric("checkgate_untrusted_hops_total", "");
    vec![match (trusted, untrusted) {
        (0, Some(requests)) if requests >= UNTRUSTED_HOPS_MANY => Answer::warn(
            format!(
                "{requests} requests came from peers that name hops before them, and none of these is trusted"
            ),
            "name your load balancers in clients.trusted_proxies; all of their clients are one client otherwise",
        ),
        (0, _) => Answer::ok("no proxy is trusted, and nothing looks as if one stood in front"),
        (_, Some(requests)) if requests >= UNTRUSTED_HOPS_MANY => Answer::warn(
            format!("{requests} requests came from peers that name hops before them and are not trusted"),
            "look whether a load balancer is missing from clients.trusted_proxies",
        ),
        _ => Answer::ok(format!("{trusted} networks of proxies are trusted")),
    }]
}

/// Whether anybody could be blocked.
pub fn identity(facts: &Facts) -> Vec<Answer> {
    let unproven = facts.running.metric("checkgate_would_block_total", "reason=\"unproven\"").unwrap_or(0.0);
    let mut seen = match &facts.settings.clients.identity {
        ClientIdentity::Assumed => "addresses stand for clients, and nobody said that they may".to_owned(),
        ClientIdentity::Header { verified_by_upstream: false, name } => {
            format!("the header {name} stands for clients, and nobody said that it is verified")
        }
        _ if unproven > 0.0 => "clients are declared".to_owned(),
        _ => return vec![Answer::ok("clients are declared")],
    };
    if unproven > 0.0 {
        // Writing to a String cannot fail.
        let _ = write!(seen, "; {unproven} decisions did not act because their client was not proven");
    }
    let enforces = any_enforces(facts);
    let mend = "say with clients.identity what tells clients apart; blocks wait for a proven identity";
    vec![if enforces || unproven > 0.0 { Answer::warn(seen, mend) } else { Answer::ok(seen) }]
}

/// Whether enforcement spares anybody.
pub fn never_block(facts: &Facts) -> Vec<Answer> {
    let configured = facts.settings.clients.never_block.len();
    let by_hand = match &facts.running {
        // Trusted proxies stand on the list of a running checkgate as well.
        Running::Answers { spared, .. } => {
            spared.saturating_sub(facts.settings.clients.trusted_proxies.len())
        }
        Running::Silent | Running::Refuses(_) => 0,
    };
    vec![if any_enforces(facts) && configured + by_hand == 0 {
        Answer::warn(
            "models are in enforce, and nobody is on the never-block list",
            "name your own monitoring and batch jobs in clients.never_block before they are taken for attackers",
        )
    } else {
        Answer::ok(format!("{} networks are never blocked", configured.max(by_hand)))
    }]
}

/// Whether observing has become a habit.
pub fn mode(facts: &Facts) -> Vec<Answer> {
    if any_enforces(facts) {
        return vec![Answer::ok("models are in enforce")];
    }
    let age = facts.state.since.map_or(0.0, |since| facts.now - since);
    let days = (age / DAY).floor();
    vec![if age > OBSERVED_MAX {
        Answer::warn(
            format!("every model is in observe, {days} days after this instance began"),
            "see with `checkgate report` whom enforce would have met, then decide; observe never acts",
        )
    } else {
        Answer::ok("every model is in observe: nothing is ever blocked")
    }]
}

/// Whether firewalls and other bouncers are told of what detectors decide.
pub fn bouncers(facts: &Facts) -> Vec<Answer> {
    let settings = &facts.settings;
    let told =
        settings.crowdsec.serve.is_some() || settings.sinks.iter().any(|sink| sink.part.name == "crowdsec");
    vec![match (told, settings.decisions.scope) {
        (false, _) => Answer::ok("no bouncer is told of decisions"),
        (true, DecisionScope::Everywhere) => Answer::ok("bouncers are told of every block on an address"),
        (true, DecisionScope::Model) => Answer::warn(
            "bouncers are told of decisions, and what detectors decide holds at one model, so it is kept from them",
            "set decisions.scope to everywhere if firewalls should refuse whom a detector blocks",
        ),
    }]
}

fn any_enforces(facts: &Facts) -> bool {
    let settings = &facts.settings;
    settings.models.iter().chain(&settings.unclaimed).any(|model| model.mode == Mode::Enforce)
}
