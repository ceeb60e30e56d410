//! From what was typed to what is meant: every value in range, every name known, every file there.

mod admin;
mod clients;
mod crowdsec;
mod inbound;
mod listeners;
mod models;
mod parts;
mod policies;
mod sinks;
mod telemetry;
mod tenants;
mod tls;
mod tokens;
mod upstreams;

use std::path::PathBuf;

use serde_json::Value;

use self::policies::Ground;
use crate::defaults::{self, DEFAULTS};
use crate::parts::Parts;
use crate::path::Path;
use crate::problem::Problem;
use crate::raw::{Raw, RawBrake, RawLedger, RawLimits, RawTimeouts};
use crate::secret::SecretSource;
use crate::settings::{Brake, Findings, Ledger, Limits, Listen, Settings, Timeouts};
use crate::source::Source;
use crate::units::{ByteSize, Period, quantity};

/// Letters of a path prefix, a host or a header name.
const TEXT_MAX: usize = 256;

/// The document that is checked.
#[derive(Clone, Copy)]
pub(crate) struct Typed<'a> {
    /// What was typed.
    pub(crate) typed: &'a Value,
    /// The same with every default filled in.
    pub(crate) whole: &'a Value,
    /// Where it stands.
    pub(crate) source: &'a Source,
}

/// Checks `raw`, which has every default filled in.
pub(crate) fn settings(
    raw: &Raw,
    document: Typed<'_>,
    parts: &Parts<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Vec<Problem>> {
    let Typed { typed, whole, source } = document;
    let mut check = Check {
        typed,
        whole,
        source,
        parts,
        environment,
        listeners: Vec::new(),
        ground: Ground::default(),
        problems: Vec::new(),
    };
    let settings = check.settings(raw);
    match settings {
        Some(settings) if check.problems.is_empty() => Ok(settings),
        None if check.problems.is_empty() => {
            Err(vec![source.value_problem(&Path::top(), "a setting without a default has no value")])
        }
        _ => Err(check.problems),
    }
}

/// One check of one document. Each method says what is wrong and goes on, so that all problems come out at once.
struct Check<'a> {
    typed: &'a Value,
    whole: &'a Value,
    source: &'a Source,
    parts: &'a Parts<'a>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// Every listener of this process, the operators' included.
    listeners: Vec<Listen>,
    /// What rules are checked against.
    ground: Ground,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn settings(&mut self, raw: &Raw) -> Option<Settings> {
        self.ranges();
        self.inspectable(raw.limits.as_ref()?);
        self.ordered_timeouts(raw.timeouts.as_ref()?);
        let listen = self.listen(raw.listen.as_ref()?);
        let admin = self.admin(raw.admin.as_ref()?);
        if let (Some(listen), Some(admin)) = (&listen, &admin) {
            self.admin_apart(listen, admin.listen);
        }
        self.listeners.extend(listen.iter().flatten().cloned());
        self.listeners.extend(admin.iter().map(|admin| Listen::Tcp(admin.listen)));
        let authz = self.authz(raw);
        let inbound = self.inbound(raw);
        let taken = self.listeners.clone();
        let crowdsec = self.crowdsec(raw.crowdsec.as_ref()?, &taken);
        let serve = crowdsec.as_ref().and_then(|crowdsec| crowdsec.serve.as_ref());
        self.listeners.extend(serve.map(|serve| Listen::Tcp(serve.listen)));
        let tls = self.tls(raw.tls.as_ref(), listen.as_deref());
        let clients = self.clients(raw.clients.as_ref()?);
        let trusts_nobody = clients.as_ref().is_some_and(|clients| clients.trusted_proxies.is_empty());
        let proxy_protocol = self.proxy_protocol(raw.proxy_protocol?, trusts_nobody);
        let telemetry = self.telemetry(raw.telemetry.as_ref()?);
        let tenants = self.tenants(raw.tenants.as_deref().unwrap_or_default());
        let decisions = policies::decisions(raw.decisions.as_ref()?)?;
        self.ground = Ground {
            tiers: tenants.iter().flatten().map(|tenant| tenant.tier.clone()).collect(),
            proposal_expires: decisions.proposal_expires,
        };
        let maintenance = self.maintenance(raw);
        let sinks = self.sinks(raw.sinks.as_deref().unwrap_or_default());
        let shared = models::shared_by_all_models(raw);
        let unclaimed = self.unclaimed(&shared);
        let models = self.models(raw.models.as_deref().unwrap_or_default(), &shared);
        self.something_to_protect(raw);
        Some(Settings {
            listen: listen?,
            proxy_protocol,
            tls: tls?,
            admin: admin?,
            inbound: inbound?,
            authz: authz?,
            threads: raw.threads?,
            lanes: raw.lanes?,
            state: self.resolve(&Path::dotted("state"), raw.state.as_ref()?),
            findings: self.findings(raw.findings.as_ref()?),
            record: raw.record.as_ref().map(|file| self.resolve(&Path::dotted("record"), file)),
            log: raw.log.as_ref()?.format?,
            telemetry: telemetry?,
            clients: clients?,
            brake: brake(raw.brake.as_ref()?)?,
            decisions,
            tenants: tenants?,
            maintenance: maintenance?,
            ledger: ledger(raw.ledger.as_ref()?)?,
            sinks: sinks?,
            crowdsec: crowdsec?,
            limits: limits(raw.limits.as_ref()?)?,
            timeouts: timeouts(raw.timeouts.as_ref()?)?,
            unclaimed: unclaimed?,
            models: models?,
        })
    }

    fn refuse(&mut self, path: &Path, message: impl Into<String>) {
        self.push(self.source.value_problem(path, message));
    }

    fn refuse_key(&mut self, path: &Path, message: impl Into<String>) {
        self.push(self.source.key_problem(path, message));
    }

    /// Several models may inherit one mistake; it is told once.
    fn push(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn resolve(&self, path: &Path, file: &std::path::Path) -> PathBuf {
        self.source.folder(path).join(file)
    }

    /// The secret that `source` says the place of.
    fn secret_at(&mut self, path: &Path, source: &SecretSource) -> Option<String> {
        let (path, source) = match source {
            SecretSource::File(file) => (path.key("file"), SecretSource::File(self.resolve(path, file))),
            other => (path.clone(), other.clone()),
        };
        let secret = source.reveal(self.environment);
        self.or_refuse(&path, secret).map(|secret| secret.reveal().to_owned())
    }

    fn or_refuse<T>(&mut self, path: &Path, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.refuse(path, message)).ok()
    }

    fn findings(&self, typed: &std::path::Path) -> Findings {
        match typed.to_str() {
            Some("stdout") => Findings::Stdout,
            _ => Findings::File(self.resolve(&Path::dotted("findings"), typed)),
        }
    }

    fn ranges(&mut self) {
        for known in DEFAULTS {
            let Some(range) = known.range else { continue };
            for place in defaults::places(known) {
                for path in Path::matching(&place, self.whole) {
                    self.range(&path, range);
                }
            }
        }
    }

    /// A time inside of another one ends no later; where only one of the two was typed, the other follows it.
    fn ordered_timeouts(&mut self, timeouts: &RawTimeouts) {
        let spans =
            [("each_try", timeouts.each_try), ("first_byte", timeouts.first_byte), ("total", timeouts.total)];
        for (position, (inner, short)) in spans.iter().enumerate() {
            for (outer, long) in spans.iter().skip(position + 1) {
                let path = |key: &str| Path::dotted("timeouts").key(key);
                let both_typed = self.was_typed(&path(inner)) && self.was_typed(&path(outer));
                if let (true, Some(short), Some(long)) = (both_typed, short, long)
                    && short > long
                {
                    self.refuse(
                        &path(inner),
                        format!(
                            "longer than {outer} ({:?}), which holds over it; lower {inner} or raise {outer}",
                            long.0
                        ),
                    );
                }
            }
        }
    }

    /// Whether the operator wrote a value at `path`.
    fn was_typed(&self, path: &Path) -> bool {
        path.find(self.typed).is_some_and(|value| !value.is_null())
    }

    /// A body that fills more than one client's share of a lane would never be looked at.
    fn inspectable(&mut self, limits: &RawLimits) {
        let (Some(inspect), Some(lane)) = (limits.inspect_bytes, limits.lane_bytes) else { return };
        let share = lane.0 as f64 * limits.lane_share_per_client.unwrap_or(1.0);
        if inspect.0 as f64 > share {
            self.refuse(
                &Path::dotted("limits.inspect_bytes"),
                format!("more than one client's share of lane_bytes ({share:.0} bytes), so such a body would never be looked at; raise lane_bytes or lane_share_per_client"),
            );
        }
    }

    fn range(&mut self, path: &Path, (least, greatest): (&str, &str)) {
        let bound = |typed| quantity(&defaults::scalar(typed));
        let typed = path.find(self.whole).and_then(quantity);
        if let (Some(typed), Some(minimum), Some(maximum)) = (typed, bound(least), bound(greatest))
            && !(minimum..=maximum).contains(&typed)
        {
            self.refuse(path, format!("out of range; allowed is {least} to {greatest}"));
        }
    }
}

fn brake(raw: &RawBrake) -> Option<Brake> {
    Some(Brake { blocks_per_minute: raw.blocks_per_minute?, share_of_clients: raw.share_of_clients? })
}

fn ledger(raw: &RawLedger) -> Option<Ledger> {
    let findings_for = raw.findings_for?.0;
    Some(Ledger {
        findings_for,
        decisions_for: raw.decisions_for?.0.max(findings_for),
        bytes_max: raw.bytes_max?.0,
    })
}

fn limits(raw: &RawLimits) -> Option<Limits> {
    Some(Limits {
        inspect_bytes: bytes(raw.inspect_bytes)?,
        rows_per_exchange: raw.rows_per_exchange?,
        columns: raw.columns?,
        lane_bytes: bytes(raw.lane_bytes)?,
        lane_share_per_client: raw.lane_share_per_client?,
        open_questions: raw.open_questions?,
        discovered_models: raw.discovered_models?,
        hold_bytes: bytes(raw.hold_bytes)?,
        blocks: raw.blocks?,
        record_bytes: raw.record_bytes?.0,
        connections: raw.connections?,
        connections_per_address: raw.connections_per_address?,
        in_flight: raw.in_flight?,
        head_bytes: bytes(raw.head_bytes)?,
        header_lines: raw.header_lines?,
        body_bytes_per_second: bytes(raw.body_bytes_per_second)?,
        answer_bytes_per_second: bytes(raw.answer_bytes_per_second)?,
        http2_streams: raw.http2_streams?,
    })
}

fn bytes(typed: Option<ByteSize>) -> Option<usize> {
    usize::try_from(typed?.0).ok()
}

fn timeouts(raw: &RawTimeouts) -> Option<Timeouts> {
    let time = |typed: Option<Period>| typed.map(|period| period.0);
    let total = time(raw.total)?;
    let first_byte = time(raw.first_byte)?.min(total);
    Some(Timeouts {
        head: time(raw.head)?,
        keep_alive: time(raw.keep_alive)?,
        connect: time(raw.connect)?,
        each_try: time(raw.each_try)?.min(first_byte),
        total,
        first_byte,
        idle: time(raw.idle)?,
        hold_answer: time(raw.hold_answer)?,
        hold_question: time(raw.hold_question)?,
        drain: time(raw.drain)?,
    })
}
