//! `checkgate run`: flags and file become settings, settings become a running proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use checkgate_config::raw::{
    Raw, RawAdmin, RawClients, RawIdentity, RawListen, RawLog, RawModel, RawUpstream,
};
use checkgate_config::settings::{Hold, LogFormat, Mode};
use clap::Args;

use super::ConfigFile;
use crate::serve::{self, Source, Start};

/// Flags for the common cases; everything else is in the configuration file. A flag wins over the file.
#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigFile,
    /// Model server to stand in front of: http://HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Where requests are accepted: IP:PORT or unix:PATH [default: 127.0.0.1:8765].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where operators ask: metrics, findings, decisions, kill switch [default: 127.0.0.1:8766].
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Whether decisions are acted on: `observe` never acts and says what it would have done [default: observe].
    #[arg(long, value_name = "MODE", value_parser = parse::<Mode>)]
    mode: Option<Mode>,
    /// What waits for a verdict: none, answer (contracts), question [default: none].
    #[arg(long, value_name = "HOLD", value_parser = parse::<Hold>)]
    hold: Option<Hold>,
    /// What normal looks like for a model, as JSON lines; may be given for several models.
    #[arg(long, value_name = "MODEL=FILE", value_parser = reference)]
    reference: Vec<(String, PathBuf)>,
    /// File for findings and decisions, one JSON object a line [default: standard output].
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,
    /// Folder for the instance key, the admin token, the kill switch and learned references [default:
    /// checkgate-state].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What tells one client from another: `ip` is your word that an address is a client, `certificate` is what it
    /// shows in the TLS handshake, `header:NAME` names a header such as an API key.
    #[arg(long, value_name = "ip|certificate|header:NAME")]
    client: Option<String>,
    /// Load balancer whose X-Forwarded-For is believed; may be given several times.
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<String>,
    /// Address or network that is never blocked; may be given several times.
    #[arg(long, value_name = "CIDR")]
    never_block: Vec<String>,
    /// Record the traffic for `checkgate replay`; the file holds what clients sent.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Form of the program's own log on standard error: text or json [default: text].
    #[arg(long, value_name = "FORMAT", value_parser = parse::<LogFormat>)]
    log_format: Option<LogFormat>,
    /// Take the place of the checkgate that runs on the same state folder: its listening sockets, its blocks, and all
    /// that it remembers. It finishes its open requests and ends.
    #[arg(long)]
    take_over: bool,
}

/// Runs the proxy until it is told to stop.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    if args.config.config.is_none() && args.upstream.is_none() {
        bail!(
            "nothing to stand in front of; give --upstream http://HOST:PORT, or -c FILE, or try `checkgate demo`"
        );
    }
    let take_over = args.take_over;
    let source = Source { file: args.config.config.clone(), flags: args.raw() };
    let start = if take_over { Start::TakingOver } else { Start::Afresh };
    serve::serve(source, start)
}

impl RunArgs {
    fn raw(self) -> Raw {
        let model =
            |(name, file)| RawModel { name: Some(name), reference: Some(file), ..RawModel::default() };
        let models: Vec<_> = self.reference.into_iter().map(model).collect();
        Raw {
            listen: self.listen.map(RawListen::One),
            admin: self.admin.map(|listen| RawAdmin { listen: Some(listen), ..RawAdmin::default() }),
            state: self.state,
            findings: self.findings,
            record: self.record,
            log: self.log_format.map(|format| RawLog { format: Some(format) }),
            clients: Some(RawClients {
                identity: self.client.map(RawIdentity::Word),
                trusted_proxies: some(self.trusted_proxy),
                never_block: some(self.never_block),
                ..RawClients::default()
            }),
            upstream: self.upstream.map(RawUpstream::Server),
            mode: self.mode,
            hold: self.hold,
            models: some(models),
            ..Raw::default()
        }
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// A value by its word in the configuration file.
pub fn parse<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

fn reference(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("expected MODEL=FILE, as in pricing=reference.jsonl")?;
    Ok((name.to_owned(), file.into()))
}
