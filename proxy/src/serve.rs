//! The running proxy, put together: what is opened, started and handed to whom, and how it ends.

use std::future::Future;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use async_trait::async_trait;
use axum::extract::ConnectInfo;
use checkgate_config::Settings;
use checkgate_config::settings::{LogFormat, Mode};
use checkgate_detectors::contract;
use checkgate_detectors::query::QUERY;
use checkgate_detectors::reference::Trust;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora_core::services::listening::Service;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::admin::access::Access;
use crate::admin::readiness::Readiness;
use crate::admin::{self, AdminState, ModelStatus, ReferenceStatus, StateStatus};
use crate::clock;
use crate::decode;
use crate::gate::{Gate, GateSettings};
use crate::identity::Identify;
use crate::lane::roster::{Listed, Roster};
use crate::lane::{LaneSettings, Lanes, Outlets};
use crate::metrics::Metrics;
use crate::plan::{self, Plan};
use crate::records::Outlet;
use crate::state::State;
use crate::transport::{App, Handler};
use crate::way::body::WayBody;
use crate::way::route::Routes;
use crate::way::{self, Way, upstream};

/// How often a drain looks whether the last connection has closed.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// Runs the proxy until it is told to stop.
pub fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    start_log(settings.log);
    let settings = Settings {
        listen: free(settings.listen).context("cannot listen for requests")?,
        admin: settings.admin.clone(),
        ..settings
    };
    free(settings.admin.listen).context("cannot listen for operators")?;
    let parts = Parts::start(&settings)?;
    let (drain, draining) = watch::channel(false);
    let proxy = Arc::new(Proxy { way: parts.way(&settings)?, connections: AtomicI64::new(0) });
    let admin = Arc::new(Admin { router: TowerToHyperService::new(admin::router(parts.admin(&settings))) });
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&settings));
    server.bootstrap();
    server.add_service(service(
        "proxy",
        settings.listen,
        App::new(Arc::clone(&proxy), draining.clone()),
        None,
    ));
    server.add_service(service("admin", settings.admin.listen, App::new(admin, draining), Some(1)));
    server.run(RunArgs {
        shutdown_signal: Box::new(Stop {
            drain,
            proxy,
            readiness: Arc::clone(&parts.readiness),
            settings: settings.clone(),
        }),
    });
    parts.stop();
    Ok(ExitCode::SUCCESS)
}

/// Everything that outlives a connection.
struct Parts {
    plan: Arc<Plan>,
    state: Arc<State>,
    metrics: Arc<Metrics>,
    records: Arc<Outlet>,
    gate: Arc<Gate>,
    lanes: Arc<Lanes>,
    roster: Arc<Roster>,
    readiness: Arc<Readiness>,
}

impl Parts {
    fn start(settings: &Settings) -> anyhow::Result<Self> {
        let state = Arc::new(State::open(&settings.state, settings.admin.token.as_ref())?);
        let plan = Arc::new(Plan::new(settings, state.hash_key())?);
        let names: Vec<_> = settings.models.iter().map(|model| model.name.clone()).collect();
        let detectors: Vec<_> = QUERY.iter().map(|spec| spec.name).chain([contract::NAME]).collect();
        let metrics = Metrics::new(&names, &detectors)?;
        let records = Arc::new(Outlet::open(&settings.findings, Arc::clone(&metrics))?);
        let gate = Arc::new(Gate::new(
            GateSettings::of(settings, state.kill_switch()),
            Arc::clone(&metrics),
            Arc::clone(&records),
        ));
        gate.watch(clock::now)?;
        let roster = Arc::new(Roster::default());
        let outlets = Outlets {
            gate: Arc::clone(&gate),
            records: Arc::clone(&records),
            metrics: Arc::clone(&metrics),
            state: Arc::clone(&state),
            roster: Arc::clone(&roster),
        };
        let lanes = Arc::new(Lanes::start(&lane_settings(settings), &plan, &outlets)?);
        let readiness = Arc::new(Readiness::default());
        Ok(Self { plan, state, metrics, records, gate, lanes, roster, readiness })
    }

    fn way(&self, settings: &Settings) -> anyhow::Result<Arc<Way>> {
        let mut first_id = [0; 8];
        getrandom::fill(&mut first_id).context("the system gives no randomness")?;
        Ok(Arc::new(Way {
            identify: Identify::new(&settings.clients, self.plan.hash_key),
            routes: Routes::new(settings)?,
            decoders: decode::defaults(),
            upstreams: upstream::client(&settings.timeouts),
            gate: Arc::clone(&self.gate),
            lanes: Arc::clone(&self.lanes),
            metrics: Arc::clone(&self.metrics),
            limits: settings.limits,
            timeouts: settings.timeouts,
            hash_key: self.plan.hash_key,
            ids: AtomicU64::new(u64::from_le_bytes(first_id)),
        }))
    }

    fn admin(&self, settings: &Settings) -> AdminState {
        let lanes = Arc::clone(&self.lanes);
        let (roster, models) = (Arc::clone(&self.roster), settings.clone());
        let configured = settings.admin.token.is_some();
        AdminState {
            gate: Arc::clone(&self.gate),
            metrics: Arc::clone(&self.metrics),
            outlet: Arc::clone(&self.records),
            readiness: Arc::clone(&self.readiness),
            access: Arc::new(Access::new(
                settings.admin.listen,
                self.state.token(),
                configured,
                self.state.hash_key(),
            )),
            lift: Arc::new(move |decision| lanes.lift(decision)),
            models: Arc::new(move || {
                roster.list().iter().filter_map(|listed| shown(listed, &models)).collect()
            }),
            directory: Arc::new(StateStatus::from(&*self.state)),
            clock: Arc::new(clock::now),
        }
    }

    /// What was accepted is finished: the lanes judge what waits, then the last record is written.
    fn stop(&self) {
        self.lanes.stop();
        self.records.flush_and_stop();
    }
}

/// A model's line for operators: what lanes know of it and what it was told.
fn shown(listed: &Listed, settings: &Settings) -> Option<ModelStatus> {
    let told = match listed.model {
        Some(index) => settings.models.get(usize::from(index))?,
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

fn lane_settings(settings: &Settings) -> LaneSettings {
    LaneSettings {
        lanes: settings.lanes,
        bytes_max: settings.limits.lane_bytes,
        share_per_client: settings.limits.lane_share_per_client,
        record: settings.record.clone(),
        record_bytes_max: settings.limits.record_bytes,
    }
}

/// Requests.
struct Proxy {
    way: Arc<Way>,
    connections: AtomicI64,
}

impl Handler for Proxy {
    type Body = WayBody;

    fn handle(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<WayBody>> + Send {
        way::handle(Arc::clone(&self.way), peer, request)
    }

    fn connection(&self, open: bool) {
        let change = if open { 1 } else { -1 };
        let now = self.connections.fetch_add(change, Ordering::Relaxed) + change;
        self.way.metrics.connections.set(now);
    }
}

/// Operators.
struct Admin {
    router: TowerToHyperService<axum::Router>,
}

impl Handler for Admin {
    type Body = axum::body::Body;

    async fn handle(&self, peer: IpAddr, mut request: Request<Incoming>) -> Response<axum::body::Body> {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer, 0)));
        match self.router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn connection(&self, _open: bool) {}
}

/// Waits for a signal, then lets open requests finish before pingora takes the threads away.
struct Stop {
    drain: watch::Sender<bool>,
    proxy: Arc<Proxy>,
    readiness: Arc<Readiness>,
    settings: Settings,
}

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        self.announce().await;
        asked_to_stop().await;
        tracing::info!("stopping: open requests finish first");
        self.readiness.set_draining();
        self.drain.send_replace(true);
        let deadline = Instant::now() + self.settings.timeouts.drain;
        let drained = async {
            while self.proxy.connections.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
                sleep(DRAIN_TICK).await;
            }
        };
        tokio::select! {
            () = drained => {}
            () = asked_to_stop() => tracing::warn!("asked twice: open requests are cut"),
        }
        // Everything is drained already; pingora's own grace period is an unconditional sleep.
        ShutdownSignal::FastShutdown
    }
}

impl Stop {
    /// Says that the proxy is up once both listeners answer.
    async fn announce(&self) {
        for address in [self.settings.listen, self.settings.admin.listen] {
            while TcpStream::connect(reachable(address)).await.is_err() {
                sleep(DRAIN_TICK).await;
            }
        }
        self.readiness.set_ready();
        let enforcing =
            self.settings.models.iter().chain(&self.settings.unclaimed).any(|m| m.mode == Mode::Enforce);
        tracing::info!(
            listen = %self.settings.listen,
            admin = %self.settings.admin.listen,
            mode = if enforcing { "enforce" } else { "observe" },
            state = %self.settings.state.display(),
            "ready"
        );
    }
}

async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without signals only a kill ends the process, which is what is left.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Where a listener on `address` can be reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The address with its port, checked to be free: pingora would try for half a minute and then panic in a thread.
fn free(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address)
        .with_context(|| format!("{address} cannot be used; choose another with --listen or --admin"))?;
    Ok(listener.local_addr()?)
}

fn service<H: Handler>(
    name: &str,
    address: SocketAddr,
    app: App<H>,
    threads: Option<usize>,
) -> Service<App<H>> {
    let mut service = Service::new(name.to_owned(), app);
    service.add_tcp(&address.to_string());
    service.threads = threads;
    service
}

fn server_conf(settings: &Settings) -> ServerConf {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    ServerConf {
        threads: if settings.threads == 0 { cores() } else { settings.threads },
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// The program's own log, on standard error: standard output belongs to findings.
fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CHECKGATE_LOG")
        .unwrap_or_else(|_| "info,pingora_core=warn,pingora=warn".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
