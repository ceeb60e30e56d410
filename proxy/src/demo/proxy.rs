//! The proxy as a user would run it: a configuration file, a child process, its findings read as they are written.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::branches;
use super::caller::http_client;
use super::event::{Event, Events, Record};
use super::model_server::{KEY_HEADER, MODEL, RENEWALS};
use super::random::Random;

/// The proxy must be ready within this time.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at readiness or at the findings.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Lines of the proxy's log that an error shows.
const LAST_WORDS_LINES: usize = 20;

/// A running proxy; it is killed when this is dropped, and its folder removed.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients ask.
    pub address: SocketAddr,
    /// Where operators ask.
    pub admin: SocketAddr,
    /// The configuration it was started with.
    pub config: String,
    // The process is dropped, and thereby killed, before its folder is removed.
    child: Child,
    folder: Folder,
}

/// A folder of its own in the place for temporary files; removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random folder name: {error}"))?;
        let name = format!("checkgate-demo-{:016x}", u64::from_ne_bytes(bytes));
        let path = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("the folder {} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Proxy {
    /// Writes a configuration that protects `upstream`, runs this very executable with it, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// Fails with the proxy's last log lines where it ends or is not ready in time.
    pub async fn start(upstream: SocketAddr, random: &mut Random) -> anyhow::Result<Self> {
        let folder = Folder::create()?;
        branches::write_reference(&folder.0, random)?;
        let [address, admin] = free_ports()?;
        let config = configuration(address, admin, upstream, &folder.0);
        let config_path = folder.0.join("demo.yaml");
        fs::write(&config_path, &config).context("the configuration cannot be written")?;
        let log = fs::File::create(folder.0.join("proxy.log")).context("the log cannot be written")?;
        let child = Command::new(std::env::current_exe().context("this executable has no path")?)
            .args(["run", "-c"])
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("the proxy cannot be started")?;
        let mut proxy = Self { address, admin, config, child, folder };
        proxy.wait_until_ready().await?;
        Ok(proxy)
    }

    /// Waits until the process ends, which it should not, and says why.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => anyhow::anyhow!("the proxy ended ({status}):\n{}", self.last_words()),
            Err(error) => anyhow::Error::new(error).context("the proxy is lost"),
        }
    }

    /// The file it writes its findings to.
    #[must_use]
    pub fn findings(&self) -> PathBuf {
        findings_in(&self.folder.0)
    }

    /// The folder of its configuration, state and findings.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.0
    }

    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let http = http_client();
        let deadline = Instant::now() + READY_DEADLINE;
        while !is_ready(&http, self.admin).await {
            if self.child.try_wait()?.is_some() {
                return Err(self.ended().await);
            }
            if Instant::now() > deadline {
                bail!("the proxy was not ready within {READY_DEADLINE:?}:\n{}", self.last_words());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.0.join("proxy.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_WORDS_LINES)..).unwrap_or_default().join("\n")
    }
}

/// Two ports that were free a moment ago. Should another process be quicker, the proxy says so and ends.
fn free_ports() -> anyhow::Result<[SocketAddr; 2]> {
    let open = || TcpListener::bind("127.0.0.1:0").context("no free loopback port for the proxy");
    let listeners = [open()?, open()?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?])
}

fn configuration(address: SocketAddr, admin: SocketAddr, upstream: SocketAddr, folder: &Path) -> String {
    let state = folder.join("state");
    let findings = findings_in(folder);
    format!(
        "listen: {address}
admin: {{ listen: {admin} }}
upstream: http://{upstream}
mode: enforce  # without this line it only watches
hold: answer   # no answer leaves before its contract is checked
clients: {{ identity: {{ header: {KEY_HEADER}, verified_by_upstream: true }} }}
models:
  - name: {MODEL}
    contract: {{ rules: [{{ minimum: 0 }}], on_violation: refuse }}
  - name: {RENEWALS}  # are they still like the quotes that the model learned from?
    drift: {{ reference: renewals.reference, cool_down_rows: 500 }}
    detectors: {{ marginal_drift: off, near_density: off }}  # they would tell of each client that it changed
state: {}
findings: {}
",
        state.display(),
        findings.display()
    )
}

fn findings_in(folder: &Path) -> PathBuf {
    folder.join("findings.jsonl")
}

async fn is_ready(http: &Client<HttpConnector, Full<Bytes>>, admin: SocketAddr) -> bool {
    let Ok(uri) = format!("http://{admin}/readyz").parse() else { return false };
    http.get(uri).await.is_ok_and(|response| response.status().is_success())
}

/// Reports every line that is appended to the findings file; goes on until it is dropped.
///
/// # Errors
/// Fails where the file cannot be read, or where a line is not a record.
pub async fn follow_findings(path: PathBuf, events: Events) -> anyhow::Result<()> {
    let mut tail = Tail { path, offset: 0 };
    loop {
        for line in tail.new_lines()? {
            let record: Record =
                serde_json::from_str(&line).with_context(|| format!("not a record: {line}"))?;
            // Nobody listens any more once the story is told.
            let _ = events.send(Event::Recorded(Box::new(record))).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A file that grows by lines.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    /// The byte after the last whole line that was read.
    offset: u64,
}

impl Tail {
    /// The whole lines since the last call; none while there is no file.
    fn new_lines(&mut self) -> anyhow::Result<Vec<String>> {
        let Ok(mut file) = fs::File::open(&self.path) else { return Ok(Vec::new()) };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("{} cannot be read", self.path.display()))?;
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        self.offset += whole as u64;
        Ok(text.get(..whole).unwrap_or_default().lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_gives_each_whole_line_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("findings.jsonl");
        let mut tail = Tail { path: path.clone(), offset: 0 };
        assert!(tail.new_lines().unwrap().is_empty(), "there is no file yet");
        fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(tail.new_lines().unwrap(), ["one", "two"], "the third line is not whole yet");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail.new_lines().unwrap(), ["three"]);
    }

    #[test]
    fn a_folder_is_gone_when_it_is_dropped() {
        let folder = Folder::create().unwrap();
        let path = folder.0.clone();
        assert!(path.is_dir());
        drop(folder);
        assert!(!path.exists());
    }
}
