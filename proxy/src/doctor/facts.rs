//! What a look at the machine, at the files, at the servers and at a running checkgate shows.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use checkgate_config::Settings;
use checkgate_config::settings::{Exporter, Findings, Listen, Model, Tls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::upstream::{Looked, look_at};

/// How long anything may take that is asked over a network.
const PATIENCE: Duration = Duration::from_secs(3);

/// Everything that checks judge. Times are Unix seconds.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The configuration file.
    pub file: PathBuf,
    /// What it says.
    pub settings: Settings,
    /// When the look began.
    pub now: f64,
    /// By how much the wall clock moved against the machine's own during the look, in seconds.
    pub stepped: f64,
    /// Listeners of this configuration.
    pub ports: Vec<Port>,
    /// Servers of all models, each once.
    pub servers: Vec<Server>,
    /// Open files that the process may have.
    pub descriptors: u64,
    /// The state folder.
    pub state: StateFolder,
    /// Reference files that models name.
    pub references: Vec<Reference>,
    /// Certificates of this side.
    pub certificates: Vec<Certificate>,
    /// Where findings and telemetry go.
    pub outlets: Vec<Outlet>,
    /// A running checkgate.
    pub running: Running,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct Port {
    /// As the configuration writes it.
    pub listen: String,
    /// Why it cannot be opened, where it cannot.
    pub taken: Option<String>,
}

/// A server of a model.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its URL.
    pub url: String,
    /// The first model that uses it.
    pub model: String,
    /// The path that was asked for, and whether the operator named it for health checks.
    pub path: (String, bool),
    /// Status and time of its answer, or why there is none.
    pub looked: Result<(u16, Option<f64>), String>,
}

/// The state folder.
#[derive(Clone, Debug, Default)]
pub struct StateFolder {
    /// Whether it exists.
    pub exists: bool,
    /// Why nothing can be written to it, where nothing can.
    pub unwritable: Option<String>,
    /// Files and folders that other users may read, with their modes.
    pub open_to_others: Vec<(PathBuf, u32)>,
    /// Free bytes of its file system.
    pub free_bytes: Option<u64>,
    /// When the instance began: the age of its key.
    pub since: Option<f64>,
}

/// A reference that a model names.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The model.
    pub model: String,
    /// When its file was last changed.
    pub changed: f64,
}

/// A certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its file.
    pub file: PathBuf,
    /// From when it holds.
    pub from: f64,
    /// Until when it holds.
    pub until: f64,
}

/// A place that something is sent to.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// What goes where.
    pub name: String,
    /// Why nothing would arrive, where nothing would.
    pub trouble: Option<String>,
}

/// A running checkgate, as its admin API shows it.
#[derive(Clone, Debug)]
pub enum Running {
    /// Nobody answers.
    Silent,
    /// It answers, and does not let us look.
    Refuses(String),
    /// What it says.
    Answers {
        /// `/v1/status`.
        status: Value,
        /// `/metrics`.
        metrics: String,
        /// Networks on its never-block list.
        spared: usize,
    },
}

impl Running {
    /// The sum of the series of a metric whose labels hold `label`.
    pub fn metric(&self, name: &str, label: &str) -> Option<f64> {
        let Self::Answers { metrics, .. } = self else { return None };
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let ours = rest.starts_with(['{', ' ']) && rest.contains(label);
            ours.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        };
        Some(metrics.lines().filter_map(value).sum())
    }
}

/// Looks at everything.
pub async fn look(file: &Path, settings: Settings, running: Running) -> Facts {
    let (began, wall) = (Instant::now(), unix(SystemTime::now()));
    let mut servers = Vec::new();
    for model in settings.models.iter().chain(&settings.unclaimed) {
        for (url, path, looked) in servers_of(model, &servers).await {
            servers.push(Server { url, model: model.name.clone(), path, looked });
        }
    }
    let passed = began.elapsed().as_secs_f64();
    Facts {
        file: file.to_owned(),
        now: wall,
        stepped: unix(SystemTime::now()) - wall - passed,
        ports: ports(&settings),
        servers,
        descriptors: rlimit::Resource::NOFILE.get().map_or(0, |(_, hard)| hard),
        state: state_folder(&settings.state),
        references: references(&settings),
        certificates: certificates(&settings),
        outlets: outlets(&settings),
        running,
        settings,
    }
}

type Asked = (String, (String, bool), Result<(u16, Option<f64>), String>);

/// The servers of a model that were not asked yet.
async fn servers_of(model: &Model, known: &[Server]) -> Vec<Asked> {
    let mut asked = Vec::new();
    for server in &model.upstream.servers {
        let url = crate::upstream::url(server);
        if known.iter().any(|one| one.url == url) {
            continue;
        }
        let path = model.upstream.health.as_ref().map(|check| check.path.clone());
        let named = (path.clone().unwrap_or_else(|| "/v2/health/ready".to_owned()), path.is_some());
        let looked = look_at(&model.upstream, server, &named.0, PATIENCE).await;
        let looked = looked.map(|Looked { status, date }| (status, date.map(unix)));
        asked.push((url, named, looked));
    }
    asked
}

fn ports(settings: &Settings) -> Vec<Port> {
    let all = settings.listen.iter().cloned().chain([Listen::Tcp(settings.admin.listen)]);
    all.map(|listen| match listen {
        Listen::Tcp(address) => {
            let taken = TcpListener::bind(address).err().map(|error| error.to_string());
            Port { listen: address.to_string(), taken }
        }
        Listen::Unix(path) => {
            // A socket file that nobody listens on is taken over at a start.
            let taken = match UnixStream::connect(&path) {
                Ok(_) => Some("another process listens on it".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(error.to_string()),
                Err(_) => None,
            };
            Port { listen: format!("unix:{}", path.display()), taken }
        }
    })
    .collect()
}

fn state_folder(folder: &Path) -> StateFolder {
    let exists = folder.is_dir();
    let inside = ["instance.key", "admin.token", "ledger", "references"].map(|name| folder.join(name));
    let open = |path: PathBuf| {
        let mode = fs::metadata(&path).ok()?.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then_some((path, mode))
    };
    let nearest = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    StateFolder {
        exists,
        unwritable: tried(if exists { folder } else { nearest }),
        open_to_others: std::iter::once(folder.to_owned()).chain(inside).filter_map(open).collect(),
        free_bytes: rustix::fs::statvfs(nearest).ok().map(|of| of.f_bavail.saturating_mul(of.f_frsize)),
        since: fs::metadata(folder.join("instance.key")).and_then(|of| of.modified()).ok().map(unix),
    }
}

/// Why nothing can be written to a folder; a file is made there and removed at once.
fn tried(folder: &Path) -> Option<String> {
    let file = folder.join(format!(".checkgate-doctor-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&file);
    drop(fs::remove_file(&file));
    made.err().map(|error| error.to_string())
}

fn references(settings: &Settings) -> Vec<Reference> {
    let of = |model: &Model| {
        let changed = fs::metadata(model.reference.as_ref()?).and_then(|of| of.modified()).ok()?;
        Some(Reference { model: model.name.clone(), changed: unix(changed) })
    };
    settings.models.iter().chain(&settings.unclaimed).filter_map(of).collect()
}

fn certificates(settings: &Settings) -> Vec<Certificate> {
    let listeners = settings.tls.iter().chain(&settings.admin.tls);
    let files = listeners.flat_map(|tls: &Tls| {
        let own = tls.certificates.iter().map(|files| files.certificate.clone());
        own.chain(tls.client_ca.clone())
    });
    let shown = settings.models.iter().chain(&settings.unclaimed).flat_map(|model| {
        let tls = &model.upstream.tls;
        tls.certificate.iter().map(|files| files.certificate.clone()).chain(tls.ca.clone())
    });
    let mut files: Vec<PathBuf> = files.chain(shown).collect();
    files.sort();
    files.dedup();
    files.into_iter().filter_map(first_certificate).collect()
}

/// The first certificate of a file, which is the leaf of a chain.
fn first_certificate(file: PathBuf) -> Option<Certificate> {
    let first = CertificateDer::pem_file_iter(&file).ok()?.next()?.ok()?;
    let (_, read) = X509Certificate::from_der(&first).ok()?;
    let validity = read.validity();
    let (from, until) = (validity.not_before.timestamp() as f64, validity.not_after.timestamp() as f64);
    Some(Certificate { file, from, until })
}

/// Every place that something is sent to, each tried. Others that findings are sent to belong here as well.
fn outlets(settings: &Settings) -> Vec<Outlet> {
    let mut outlets = vec![findings(&settings.findings)];
    let telemetry = &settings.telemetry;
    let signals = [("metrics", &telemetry.metrics), ("traces", &telemetry.traces), ("logs", &telemetry.logs)];
    let mut seen: Vec<String> = Vec::new();
    for (signal, exporter) in signals {
        let Some(exporter) = exporter else { continue };
        if !seen.contains(&exporter.authority()) {
            outlets.push(collector(signal, exporter));
            seen.push(exporter.authority());
        }
    }
    outlets.extend(telemetry.passed_over.iter().map(|sentence| Outlet {
        name: "telemetry: environment".to_owned(),
        trouble: Some(sentence.clone()),
    }));
    outlets
}

fn findings(findings: &Findings) -> Outlet {
    match findings {
        Findings::Stdout => Outlet { name: "findings: standard output".to_owned(), trouble: None },
        Findings::File(path) => {
            let trouble = if path.exists() {
                OpenOptions::new().append(true).open(path).err().map(|error| error.to_string())
            } else {
                tried(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
            };
            Outlet { name: format!("findings: {}", path.display()), trouble }
        }
    }
}

/// Only whether somebody listens there: what is sent would be believed.
fn collector(signal: &str, exporter: &Exporter) -> Outlet {
    let connected = (exporter.host.as_str(), exporter.port).to_socket_addrs().and_then(|mut addresses| {
        let address = addresses.next().ok_or_else(|| io::Error::other("the name has no address"))?;
        TcpStream::connect_timeout(&address, PATIENCE)
    });
    let name = format!("telemetry: {signal} to {}", exporter.authority());
    Outlet { name, trouble: connected.err().map(|error| error.to_string()) }
}

/// A moment as Unix seconds.
fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
