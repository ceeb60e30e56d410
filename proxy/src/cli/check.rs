//! `checkgate check`: whether a configuration holds.

use std::process::ExitCode;

use anyhow::Context;
use checkgate_config::settings::{ClientCertificate, Listen, Model, Server, Tls, Upstream};
use checkgate_config::{Raw, Settings};
use clap::Args;
use serde::Serialize;

use super::{ConfigFile, print};
use crate::lane::desk::Desk;
use crate::metrics::Metrics;
use crate::plan::{ModelIds, Plan};
use crate::serve::Source;
use crate::sinks::{Ground, office};
use crate::upstream::{Upstreams, url};
use crate::way::route::Routes;

/// Arguments of `checkgate check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigFile,
}

/// Reads the file and builds all that `run` would build, short of opening a socket.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.config.as_deref().context("which file? give -c FILE")?;
    let source = Source { file: Some(file.to_owned()), flags: Raw::default() };
    let settings = source.read().settings?;
    let mut ids = ModelIds::default();
    let plan = Plan::new(&settings, [0, 0], &mut ids)?;
    Desk::new(plan.into())?;
    let metrics = Metrics::new(&[], &[])?;
    let upstreams = Upstreams::unwatched(&settings, &ids, &metrics)?;
    Routes::new(&settings, &ids, &upstreams)?;
    let environment = |name: &str| std::env::var(name).ok();
    let sinks =
        office::build(&settings, &Ground { environment: &environment, instance: &"cg-nobody".into() })?;
    drop(sinks);
    print(&format!("{}: ok\n{}", file.display(), summary(&settings)))
}

fn summary(settings: &Settings) -> String {
    let mut lines = vec![listens(settings), format!("operators ask on {}", settings.admin.listen)];
    lines.extend(settings.models.iter().map(|model| format!("model {}: {}", model.name, serves(model))));
    lines.extend(settings.unclaimed.iter().map(|model| format!("other models: {}", serves(model))));
    lines.extend(settings.sinks.iter().map(|sink| format!("sink {}: {}", sink.name, sink.part.name)));
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

fn listens(settings: &Settings) -> String {
    let shown = settings.listen.iter().map(|listen| match listen {
        Listen::Tcp(address) => format!("{address} ({})", tls(settings.tls.as_ref())),
        Listen::Unix(path) => format!("unix:{}", path.display()),
    });
    format!("listens on {}", joined(shown))
}

fn tls(tls: Option<&Tls>) -> String {
    let Some(tls) = tls else { return "plain".to_owned() };
    let certificates = counted(tls.certificates.len(), "certificate");
    match (&tls.client_ca, tls.client_certificate) {
        (None, _) => format!("TLS, {certificates}"),
        (Some(_), ClientCertificate::Required) => format!("TLS, {certificates}, clients show theirs"),
        (Some(_), ClientCertificate::Optional) => format!("TLS, {certificates}, clients may show theirs"),
    }
}

fn serves(model: &Model) -> String {
    format!("{} through {}", word(model.mode), upstream(&model.upstream))
}

fn upstream(upstream: &Upstream) -> String {
    let servers = joined(upstream.servers.iter().map(server));
    let mut facts = Vec::new();
    if upstream.servers.len() > 1 {
        facts.push(word(upstream.balance).replace('_', " "));
        let health = upstream.health.as_ref().map(|check| format!("health checks at {}", check.path));
        facts.push(health.unwrap_or_else(|| "no health checks".to_owned()));
    }
    if upstream.tls.insecure {
        facts.push("ANY certificate is accepted".to_owned());
    }
    if facts.is_empty() { servers } else { format!("{servers} ({})", facts.join(", ")) }
}

fn server(server: &Server) -> String {
    let address = url(server);
    if server.weight == 1 { address } else { format!("{address} (weight {})", server.weight) }
}

/// The word that stands for `value` in a configuration file.
fn word(value: impl Serialize) -> String {
    let written = serde_json::to_value(value).unwrap_or_default();
    written.as_str().unwrap_or_default().to_owned()
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn joined(shown: impl Iterator<Item = String>) -> String {
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts;

    #[test]
    fn the_summary_tells_listeners_tls_and_servers() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/examples/checkgate.yaml");
        let text = "listen: [0.0.0.0:8765, unix:/run/in.sock]\n\
             tls: {certificate: certificates/server.pem, key: certificates/server.key, client_ca: certificates/authority.pem}\n\
             upstream: http://[::1]:8080\nmodels:\n- name: a\n  mode: enforce\n  upstream:\n    \
             servers: [unix:/run/a.sock, {url: 'https://m.example:8443', weight: 3}]\n    \
             balance: least_loaded\n    health: {}\n    tls: {insecure: true}\n";
        let settings = checkgate_config::read(text, examples, &parts::all()).unwrap();
        let expected = [
            "  listens on 0.0.0.0:8765 (TLS, 1 certificate, clients show theirs), unix:/run/in.sock",
            "  operators ask on 127.0.0.1:8766",
            "  model a: enforce through unix:/run/a.sock, https://m.example:8443 (weight 3) (least loaded, health checks at /v2/health/ready, ANY certificate is accepted)",
            "  other models: observe through http://[::1]:8080",
        ];
        assert_eq!(summary(&settings).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_plain_listener_is_called_plain() {
        let settings =
            checkgate_config::read("upstream: http://m:1", "checkgate.yaml", &parts::all()).unwrap();
        assert_eq!(listens(&settings), "listens on 127.0.0.1:8765 (plain)");
    }
}
