//! The running proxy, put together: what is opened, started and handed to whom, and how it ends.

mod doors;
mod fixed;
mod hand_over;
mod house;
mod link;
mod log;
mod notes;
mod notify;
mod reload;
mod sockets;
mod source;
mod stop;
mod threads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use axum::extract::ConnectInfo;
use checkgate_config::Settings;
use checkgate_config::settings::{self, Listen};
use checkgate_detectors::drift::room::view::View;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{DecisionId, Kind};
use checkgate_detectors::query;
use checkgate_detectors::reference::Trust;
use checkgate_detectors::{campaign, contract, drift};
use http::{Request, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use parking_lot::{Mutex, RwLock};

use self::hand_over::{Inherited, Taker};
use self::house::House;
pub use self::reload::ConfigStatus;
use self::reload::Reloader;
use self::sockets::{Named, Sockets};
pub use self::source::{Reading, Source};
use crate::admin::access::{Access, CertificateNames};
use crate::admin::events::Room;
use crate::admin::readiness::Readiness;
use crate::admin::{AdminState, ModelStatus, ReferenceStatus, StateStatus};
use crate::clock;
use crate::control::{Control, Hears, Modes, NotPromoted, Promotion, Rooms};
use crate::decode;
use crate::gate::{Gate, GateSettings};
use crate::identity::Identify;
use crate::inbound::Inbound;
use crate::lane::keeper::Keeper;
use crate::lane::roster::{Listed, Roster};
use crate::lane::{LaneError, LaneSettings, Lanes, Outlets};
use crate::lapi::Lapi;
use crate::lapi::holdings::Hands;
use crate::lapi::source::Room as Sources;
use crate::ledger::book::Bounds;
use crate::ledger::disk::Folder;
use crate::ledger::entry::{By, What};
use crate::ledger::log::SEGMENT_BYTES;
use crate::ledger::reduce::Retention;
use crate::ledger::{Hooks, Ledger, LedgerSettings, Opening};
use crate::metrics::Metrics;
use crate::metrics::labels::{CandidateOutcome, DriftMemoryOutcome};
use crate::plan::{self, ModelIds, Plan, in_base_64};
use crate::records::{self, Outlet};
use crate::sinks::Ground;
use crate::sinks::office::{self, Office, Premises};
use crate::state::State;
use crate::state::candidates::{Candidate, Summary};
use crate::state::drift_memory::{self, Found, Memory};
use crate::telemetry::logs::Told;
use crate::telemetry::{Telemetry, Waiting};
use crate::transport::downstream::Downstream;
use crate::transport::rules::Rules;
use crate::transport::tls::TlsHandle;
use crate::transport::{Handler, Peer, Received};
use crate::upstream::Upstreams;
use crate::way::body::WayBody;
use crate::way::in_flight::InFlight;
use crate::way::route::Routes;
use crate::way::{self, Way};

/// How to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With an empty memory, on sockets of its own.
    Afresh,
    /// In the place of the process that serves from the same state folder.
    TakingOver,
}

/// Runs the proxy until it is told to stop, or until another process has taken over.
pub fn serve(source: Source, start: Start) -> anyhow::Result<ExitCode> {
    let Reading { files, settings } = source.read();
    let typed = settings?;
    let waiting = Waiting::of(&typed.telemetry);
    log::start(typed.log, waiting.own_log());
    let (taker, inherited) = match start {
        Start::Afresh => (None, Inherited::default()),
        Start::TakingOver => Taker::call(&typed.state).map(|(taker, inherited)| (Some(taker), inherited))?,
    };
    let (settings, sockets) = opened(&typed, inherited.sockets)?;
    let (parts, plan, ids) = Parts::start(&settings, source.file.clone(), taker.is_some(), &waiting)?;
    let digest = source::digest(&files);
    drop(parts.ledger.note(clock::now(), By::itself(), What::Configuration { digest, refused: None }));
    if taker.is_some() {
        parts.gate.restore(inherited.gate, clock::now());
    }
    let proxy = Arc::new(Proxy {
        way: ArcSwap::new(parts.way(&settings, &ids, None)?),
        metrics: Arc::clone(&parts.metrics),
        connections: AtomicI64::new(0),
        leaving: AtomicBool::new(false),
    });
    let reloader = Reloader::new(source, files, (typed, plan, ids), Arc::clone(&parts), Arc::clone(&proxy));
    reloader.start().context("cannot watch the configuration")?;
    let house = House::new(settings, sockets, parts, proxy);
    match taker {
        Some(taker) => taker.start(house.giver())?,
        None => house.giver().start(),
    }
    Ok(house.run())
}

/// The settings with the ports that listeners have, and all listening sockets.
fn opened(typed: &Settings, inherited: Vec<Named>) -> anyhow::Result<(Settings, Sockets)> {
    let (listen, authz) = (&typed.listen, &typed.authz.listen);
    let bouncers = typed.crowdsec.serve.as_ref().map(|serve| Listen::Tcp(serve.listen));
    let operators = [Listen::Tcp(typed.admin.listen)];
    let wanted: Vec<_> = listen.iter().chain(authz).cloned().chain(bouncers).chain(operators).collect();
    let (sockets, mut opened) = Sockets::open(&wanted, inherited).context("cannot listen")?;
    let mut settings = typed.clone();
    if let Some(Listen::Tcp(admin)) = opened.pop() {
        settings.admin.listen = admin;
    }
    if let Some(serve) = &mut settings.crowdsec.serve
        && let Some(Listen::Tcp(listen)) = opened.pop()
    {
        serve.listen = listen;
    }
    settings.authz.listen = opened.split_off(listen.len());
    settings.listen = opened;
    Ok((settings, sockets))
}

/// Everything that outlives a connection and a reload.
struct Parts {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    records: Arc<Outlet>,
    gate: Arc<Gate>,
    lanes: Arc<Lanes>,
    ledger: Arc<Ledger>,
    telemetry: Option<Telemetry>,
    /// Where findings and decisions are sent.
    sinks: Office,
    /// Decisions that are enforced elsewhere, and taken from elsewhere.
    lapi: Lapi,
    roster: Arc<Roster>,
    /// Writes what drift remembers.
    keeper: Keeper,
    readiness: Arc<Readiness>,
    /// Who may ask the admin API what.
    access: Arc<Access>,
    /// Where other systems decide.
    inbound: Arc<Inbound>,
    /// TLS on the operators' listener, until that opens.
    operators_tls: Mutex<Option<TlsHandle>>,
    in_flight: Arc<InFlight>,
    degraded: Arc<InFlight>,
    /// What holds for connections of clients.
    downstream: Arc<Downstream>,
    /// The settings in force.
    settings: ArcSwap<Settings>,
    /// What operators are told of them.
    config: RwLock<ConfigStatus>,
}

impl Parts {
    fn start(
        settings: &Settings,
        file: Option<PathBuf>,
        await_ownership: bool,
        waiting: &Waiting,
    ) -> anyhow::Result<(Arc<Self>, Arc<Plan>, ModelIds)> {
        let state = Arc::new(State::open(&settings.state, settings.admin.token.as_ref())?);
        let mut ids = ModelIds::default();
        let plan = Plan::new(settings, state.hash_key(), &mut ids)?
            .trusting(state.promoted(), in_base_64(state.promoted_drifts()));
        let plan = Arc::new(plan);
        let names: Vec<_> = plan.models.values().map(|model| model.name.clone()).collect();
        let detectors: Vec<_> =
            query::all().map(|spec| spec.name).chain([contract::NAME, campaign::NAME, drift::NAME]).collect();
        let metrics = Metrics::new(&names, &detectors)?;
        let telemetry = Telemetry::start(&settings.telemetry, &state.instance_key(), &metrics, waiting)
            .context("telemetry cannot start")?;
        let records = Arc::new(Outlet::open(&settings.findings, Arc::clone(&metrics))?);
        let gate = Arc::new(Gate::new(GateSettings::of(settings, state.kill_switch()), Arc::clone(&metrics)));
        let ledger = Arc::new(start_ledger(settings, &gate, &records, &metrics, waiting)?);
        // What an earlier process decided holds before anybody is let in. A process that takes over is told.
        if !await_ownership {
            ledger.open(Opening::Afresh);
        }
        let noted = Arc::clone(&ledger);
        gate.watch(clock::now, move |gate, ticked| notes::ticked(&noted, gate, ticked, clock::now()))?;
        let roster = Arc::new(Roster::default());
        let keeper = Keeper::start(state.directory().to_owned(), Arc::clone(&metrics))?;
        let outlets = Outlets {
            gate: Arc::clone(&gate),
            records: Arc::clone(&records),
            ledger: Arc::clone(&ledger),
            metrics: Arc::clone(&metrics),
            state: Arc::clone(&state),
            roster: Arc::clone(&roster),
            keeper: keeper.clone(),
        };
        let lanes = start_lanes(&lane_settings(settings, await_ownership), &plan, &outlets)?;
        let tls = settings.tls.as_ref().map(TlsHandle::new).transpose()?;
        let downstream = Arc::new(Downstream::new(Rules::of(settings), tls, Arc::clone(&metrics)));
        metrics.deciding.set(i64::from(!await_ownership));
        let access = Arc::new(Access::new(settings.admin.listen, state.token(), &settings.admin));
        let inbound = Arc::new(Inbound::new(&settings.inbound, &metrics));
        let in_flight = InFlight::new(settings.limits.in_flight, metrics.in_flight.clone());
        let degraded = InFlight::new(degraded_max(settings), metrics.degraded_in_flight.clone());
        let sinks = start_sinks(settings, &state, &ledger, &metrics)?;
        if !await_ownership {
            sinks.deliver();
        }
        let lapi = Lapi::new(settings, &gate, &ledger, &metrics);
        let parts = Self {
            in_flight,
            degraded,
            downstream,
            state,
            metrics,
            records,
            gate,
            lanes,
            ledger,
            telemetry,
            sinks,
            lapi,
            roster,
            keeper,
            readiness: Arc::default(),
            access,
            inbound,
            operators_tls: Mutex::new(settings.admin.tls.as_ref().map(TlsHandle::new).transpose()?),
            settings: ArcSwap::from_pointee(settings.clone()),
            config: RwLock::new(ConfigStatus::new(file)),
        };
        Ok((Arc::new(parts), plan, ids))
    }

    fn way(&self, settings: &Settings, ids: &ModelIds, previous: Option<&Way>) -> anyhow::Result<Arc<Way>> {
        let mut first_id = [0; 8];
        getrandom::fill(&mut first_id).context("the system gives no randomness")?;
        let hash_key = self.state.hash_key();
        let upstreams = Upstreams::new(settings, ids, &self.metrics, previous.map(|way| &way.upstreams))?;
        let known = previous.map(|way| &way.identify);
        let identify = Identify::new(&settings.clients, hash_key, &self.metrics, known)
            .context("cannot read the keys of tokens")?;
        Ok(Arc::new(Way {
            identify,
            routes: Routes::new(settings, ids, &upstreams)?,
            decoders: decode::defaults(),
            upstreams,
            gate: Arc::clone(&self.gate),
            lanes: Arc::clone(&self.lanes),
            in_flight: Arc::clone(&self.in_flight),
            degraded: Arc::clone(&self.degraded),
            tracing: self.telemetry.as_ref().and_then(Telemetry::tracing),
            metrics: Arc::clone(&self.metrics),
            limits: settings.limits,
            timeouts: settings.timeouts,
            body_hasher: settings.record.is_some().then(|| body_hasher(hash_key)),
            ids: AtomicU64::new(u64::from_le_bytes(first_id)),
        }))
    }

    fn admin(self: &Arc<Self>, control: Arc<Control>) -> AdminState {
        if let Err(error) = control.watch(clock::now) {
            tracing::warn!(%error, "nobody notes what the kill switch's file does");
        }
        let (shows_models, shows_config, shows_sinks, shows_drift) =
            (Arc::clone(self), Arc::clone(self), Arc::clone(self), Arc::clone(self));
        let asks_who = Arc::clone(self);
        let waiting = Arc::clone(&self.state);
        AdminState {
            gate: Arc::clone(&self.gate),
            ledger: Arc::clone(&self.ledger),
            metrics: Arc::clone(&self.metrics),
            outlet: Arc::clone(&self.records),
            readiness: Arc::clone(&self.readiness),
            access: Arc::clone(&self.access),
            control,
            inbound: Arc::clone(&self.inbound),
            answers: Arc::default(),
            listeners: Room::default(),
            models: Arc::new(move || shows_models.models()),
            candidates: Arc::new(move || waiting.candidates()),
            drift: Arc::new(move |model, version| shows_drift.drift(model, version)),
            farthest: Arc::new(move |most| asks_who.lanes.farthest(clock::now(), most)),
            sinks: Arc::new(move || shows_sinks.sinks.shown()),
            config: Arc::new(move || shows_config.config.read().clone()),
            directory: Arc::new(StateStatus::from(&*self.state)),
            clock: Arc::new(clock::now),
        }
    }

    /// What sources of decisions are made of.
    fn sources(self: &Arc<Self>, control: &Arc<Control>) -> Sources {
        let (acting, control, deciding) = (Arc::clone(self), Arc::clone(control), Arc::clone(self));
        Sources {
            list: self.lapi.sources(),
            hands: Box::new(move || Hands {
                control: Arc::clone(&control),
                gate: Arc::clone(&acting.gate),
                ledger: Arc::clone(&acting.ledger),
                at_most: acting.settings.load().decisions.at_most,
            }),
            decides: Box::new(move || deciding.metrics.deciding.get() == 1),
            metrics: Arc::clone(&self.metrics),
            clock: clock::now,
        }
    }

    /// The door by which operators and programs change anything.
    fn control(self: &Arc<Self>) -> Control {
        let (modes, configured, widest) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        Control::new(Rooms {
            gate: Arc::clone(&self.gate),
            ledger: Arc::clone(&self.ledger),
            outlet: Arc::clone(&self.records),
            lanes: Arc::clone(self) as Arc<dyn Hears>,
            modes: Box::new(move || modes.modes()),
            configured: Box::new(move || {
                let settings = configured.settings.load();
                let clients = &settings.clients;
                clients.never_block.iter().chain(&clients.trusted_proxies).copied().collect()
            }),
            widest: Box::new(move || widest.settings.load().decisions.widest_prefix),
            instance_key: self.state.instance_key(),
        })
    }

    /// The modes of models, of those included that were discovered.
    fn modes(&self) -> Modes {
        let settings = self.settings.load();
        let configured = settings.models.iter().map(|model| (model.name.clone(), plan::mode(model.mode)));
        let discovered = self.models().into_iter().filter(|model| model.discovered);
        Modes {
            named: configured.chain(discovered.map(|model| (model.name, model.mode))).collect(),
            others: settings.unclaimed.as_ref().map(|model| plan::mode(model.mode)),
        }
    }

    fn models(&self) -> Vec<ModelStatus> {
        let settings = self.settings.load();
        self.roster.list().iter().filter_map(|listed| shown(listed, &settings)).collect()
    }

    /// How the drift of a model stands, or that of one of its versions.
    fn drift(&self, model: &str, version: Option<&str>) -> Result<Option<View>, LaneError> {
        let listed = self.roster.list().into_iter().find(|listed| listed.name == model);
        let look = |listed: Listed| self.lanes.look(listed.model, (model, version), clock::now());
        listed.map_or(Ok(None), look)
    }

    /// What was accepted is finished: the lanes judge what waits, then the last entry and the last record are written.
    fn stop(&self) {
        self.lanes.stop();
        if !self.keeper.settle(KEEPER_GRACE) {
            tracing::warn!("not all of what drift remembers was written; a restart begins with less");
        }
        notes::at_the_end(&self.ledger, &self.gate, clock::now());
        self.sinks.stop(SINKS_GRACE);
        self.ledger.stop();
        self.records.flush_and_stop();
        if let Some(telemetry) = &self.telemetry {
            telemetry.stop();
        }
    }
}

/// How long sinks may still deliver when the process ends or hands over; the rest waits in the ledger.
const SINKS_GRACE: Duration = Duration::from_secs(1);

/// How long what drift remembers may take to be written when the process ends.
const KEEPER_GRACE: Duration = Duration::from_secs(5);

/// The lanes, which go on with what drift remembered, unless another process hands that over.
fn start_lanes(settings: &LaneSettings, plan: &Arc<Plan>, outlets: &Outlets) -> anyhow::Result<Arc<Lanes>> {
    let lanes = Arc::new(Lanes::start(settings, plan, outlets)?);
    if !settings.await_ownership {
        lanes.remember(remembered(&outlets.state, &outlets.metrics), plan);
    }
    lanes.watch()?;
    Ok(lanes)
}

/// What drift remembered when another process ended; what is damaged is set aside.
fn remembered(state: &State, metrics: &Metrics) -> Vec<Memory> {
    let Found { memories, aside } = drift_memory::read(state.directory());
    for (path, error) in aside {
        tracing::warn!(path = %path.display(), %error, "what drift remembered is set aside; it is watched afresh");
        metrics.drift_memory.inc(DriftMemoryOutcome::SetAside);
    }
    memories
}

/// The sinks that `settings` name, resting.
fn start_sinks(
    settings: &Settings,
    state: &State,
    ledger: &Arc<Ledger>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Office> {
    let premises = Premises {
        state: settings.state.clone(),
        instance: state.instance_id(),
        ledger: Arc::clone(ledger),
        metrics: Arc::clone(metrics),
    };
    let sinks = office::build(settings, &ground(&premises.instance))?;
    let office = Office::start(premises)?;
    office.adopt(sinks);
    Ok(office)
}

/// What sinks are built on in this process.
fn ground(instance: &Arc<str>) -> Ground<'_> {
    Ground { environment: &|name| std::env::var(name).ok(), instance }
}

/// The ledger in the state folder, not opened yet.
fn start_ledger(
    settings: &Settings,
    gate: &Arc<Gate>,
    records: &Arc<Outlet>,
    metrics: &Arc<Metrics>,
    waiting: &Waiting,
) -> std::io::Result<Ledger> {
    let (gate, outlet, exported) = (Arc::clone(gate), Arc::clone(records), waiting.told.clone());
    let print = move |kind, line: &Arc<str>| {
        if let Some(exported) = &exported {
            exported.push(Told::Record(Arc::clone(line)));
        }
        outlet.print(kind, Arc::clone(line));
    };
    let hooks = Hooks {
        // Only what is kept, or known not to be, is printed.
        told: Box::new(move |entry| match &entry.what {
            What::Finding { record } => print(Kind::Finding, record),
            What::Drift { record } => print(Kind::Drift, record),
            What::Decision(decided) => {
                print(Kind::Decision, &records::printed(&decided.evidence, decided.held_back));
            }
            _ => {}
        }),
        opened: Box::new(move |book, now| {
            gate.spare(&book.never_block().iter().copied().collect::<Vec<_>>());
            gate.resume(book.open(now), now);
        }),
    };
    let settings = LedgerSettings {
        disk: Arc::new(Folder(settings.state.join("ledger"))),
        bounds: Bounds::default(),
        segment_bytes: SEGMENT_BYTES,
        retention: Retention::of(settings.ledger),
        clock: clock::reading,
    };
    Ledger::start(settings, hooks, Some(Arc::clone(metrics)))
}

impl Hears for Parts {
    fn lift(&self, id: DecisionId) {
        self.lanes.lift(id);
    }

    fn approve(&self, id: DecisionId, until: Time) {
        self.lanes.approve(id, until);
    }

    fn reject(&self, id: DecisionId) {
        self.lanes.reject(id);
    }

    fn promote(&self, model: &str) -> Result<Promotion, NotPromoted> {
        let listed = self.roster.list().into_iter().find(|listed| listed.name == model);
        let listed = listed.filter(|listed| listed.reference.is_some()).ok_or(NotPromoted::Nothing)?;
        if !self.state.has_room_to_promote(model) {
            return Err(NotPromoted::Full);
        }
        let learned = self.lanes.promote(listed.model, model).map_err(|_| NotPromoted::Busy)?;
        let learned = learned.ok_or(NotPromoted::Nothing)?;
        Ok(Promotion { rows: learned.rows, kept: self.state.keep_promoted(model, learned.text) })
    }

    fn promote_candidate(&self, model: &str) -> Result<(Summary, bool), NotPromoted> {
        let candidate = self.state.candidate(model).ok_or(NotPromoted::Nothing)?;
        if !self.state.has_room_to_promote(model) {
            return Err(NotPromoted::Full);
        }
        let settings = self.settings.load();
        let configured = settings.models.iter().find(|configured| configured.name == model);
        let listed = self.roster.list().into_iter().find(|listed| listed.name == model);
        let id = listed.and_then(|listed| listed.model);
        let of = configured.or(settings.unclaimed.as_ref());
        if of.is_some_and(|of| is_named(of, &candidate)) {
            return Err(NotPromoted::Named);
        }
        if !self.lanes.install(id, &candidate).map_err(|_| NotPromoted::Busy)? {
            return Err(NotPromoted::Nothing);
        }
        self.metrics.candidates.inc(CandidateOutcome::Promoted);
        Ok((candidate.summary.clone(), self.state.keep_promoted_candidate(&candidate)))
    }
}

/// Whether the configuration names a reference in the place of one that waits.
fn is_named(model: &settings::Model, candidate: &Candidate) -> bool {
    let drift = model.drift.as_ref().is_some_and(|drift| drift.reference.is_some());
    candidate.query.is_some() && model.reference.is_some() || candidate.drift.is_some() && drift
}

/// How many requests of degraded clients may be open at once: a quarter of all, for they wait, and others must not find
/// their places taken.
fn degraded_max(settings: &Settings) -> usize {
    (settings.limits.in_flight / 4).max(1)
}

/// The hasher of bodies; its values stand in captures, and nobody outside can aim at one.
fn body_hasher([k0, k1]: [u64; 2]) -> ahash::RandomState {
    ahash::RandomState::with_seeds(k0, k1, !k0, !k1)
}

/// A model's line for operators: what lanes know of it and what it was told.
fn shown(listed: &Listed, settings: &Settings) -> Option<ModelStatus> {
    let told = match listed.model {
        Some(_) => settings.models.iter().find(|model| model.name == listed.name)?,
        None => settings.unclaimed.as_ref()?,
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let trust = |trust| match trust {
        Trust::Provisional => "provisional",
        Trust::Trusted => "trusted",
    };
    Some(ModelStatus {
        name: listed.name.clone(),
        discovered: listed.model.is_none(),
        mode: plan::mode(told.mode),
        hold: told.hold,
        protocol: told.protocol.as_ref().map(|chosen| chosen.name.clone()),
        detectors: owned(&listed.detectors),
        quarantined: owned(&listed.quarantined),
        reference: listed.reference.map(|(rows, kind)| ReferenceStatus { rows, trust: trust(kind) }),
        clients: listed.clients,
    })
}

fn lane_settings(settings: &Settings, await_ownership: bool) -> LaneSettings {
    if await_ownership && settings.record.is_some() {
        // What is remembered from before the recording is in no recording.
        tracing::warn!("nothing is recorded by a process that took over; restart it to record");
    }
    LaneSettings {
        await_ownership,
        lanes: settings.lanes,
        bytes_max: settings.limits.lane_bytes,
        share_per_client: settings.limits.lane_share_per_client,
        record: settings.record.clone().filter(|_| !await_ownership),
        record_bytes_max: settings.limits.record_bytes,
    }
}

/// Requests.
struct Proxy {
    /// Swapped by a reload; a request keeps the one that it began with.
    way: ArcSwap<Way>,
    metrics: Arc<Metrics>,
    connections: AtomicI64,
    /// Kept connections are sent away: each answer says that it is the last.
    leaving: AtomicBool,
}

impl Handler for Proxy {
    type Body = WayBody;

    fn handle(&self, peer: &Peer, request: Request<Received>) -> impl Future<Output = Response<WayBody>> {
        way::handle(self.way.load_full(), peer, request)
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    fn connection(&self, open: bool) {
        let change = if open { 1 } else { -1 };
        let now = self.connections.fetch_add(change, Ordering::Relaxed) + change;
        self.metrics.connections.set(now);
    }
}

/// Operators, and bouncers.
struct Admin {
    router: TowerToHyperService<axum::Router>,
}

impl Handler for Admin {
    type Body = axum::body::Body;

    async fn handle(&self, peer: &Peer, mut request: Request<Received>) -> Response<axum::body::Body> {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.ip, 0)));
        request.extensions_mut().insert(CertificateNames(Arc::clone(&peer.names)));
        match self.router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn connection(&self, _open: bool) {}
}
