//! The binary under test: found, started on free ports with a state folder of its own, and stopped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Client, Reply};

/// How long the binary may take until it is ready, and how long anything else may take that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where the binary stands: beside the directory of the test executable, as cargo lays them out.
///
/// # Errors
/// Says how to build it where it is missing.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("CHECKGATE_BINARY") {
        return Ok(named.into());
    }
    let test = std::env::current_exe().context("the test executable has no path")?;
    let profile = test.ancestors().nth(2).context("the test executable is not in target/PROFILE/deps")?;
    let binary = profile.join("checkgate");
    ensure!(
        binary.is_file(),
        "there is no {}; build it with `cargo build -p checkgate{}`",
        binary.display(),
        if profile.ends_with("release") { " --release" } else { "" }
    );
    Ok(binary)
}

/// Replays `recording` in a process of its own and gives the findings file that it writes.
///
/// # Errors
/// Where the replay fails; its own words are in the error.
pub fn replay(recording: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let scratch = TempDir::new()?;
    let findings = scratch.path().join("findings.jsonl");
    let mut command = Command::new(binary()?);
    command.arg("replay").arg(recording).arg("--findings").arg(&findings).args(arguments);
    let output = command.output()?;
    ensure!(output.status.success(), "replay: {}", String::from_utf8_lossy(&output.stderr));
    Ok(fs::read_to_string(findings)?)
}

/// What `checkgate explain` says with `arguments`.
///
/// # Errors
/// Where it knows no such finding; its own words are in the error.
pub fn explain(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(binary()?).arg("explain").args(arguments).output()?;
    ensure!(output.status.success(), "explain: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// First of the ports that are tried, and how many there are: below those that the kernel gives to clients, which
/// would otherwise take a free port before the binary can.
const PORTS: (u16, u16) = (10_000, 20_000);

/// A loopback address that nothing listens on at this moment, another one with each call.
///
/// # Errors
/// Where no port is free.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let (first, count) = PORTS;
    for _ in 0..count {
        // Test processes that run side by side begin far apart.
        let call = CALLS.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = first + u16::try_from(call % u32::from(count))?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no port from {first} to {} is free", first + count)
}

/// How to start the binary: its arguments, or a config file in their place.
#[derive(Debug, Default)]
pub struct Start {
    arguments: Vec<String>,
    config: Option<Value>,
    file: Option<PathBuf>,
    state: Option<PathBuf>,
    socket: Option<PathBuf>,
}

impl Start {
    /// In front of `upstream`, as `checkgate run --upstream` does it.
    #[must_use]
    pub fn in_front_of(upstream: SocketAddr) -> Self {
        Self::default().with(&["--upstream", &format!("http://{upstream}")])
    }

    /// As a config file says; JSON is YAML.
    #[must_use]
    pub fn configured(config: Value) -> Self {
        Self { config: Some(config), ..Self::default() }
    }

    /// With more arguments.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// With a config file.
    #[must_use]
    pub fn with_file(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// At a unix socket instead of an address.
    #[must_use]
    pub fn at_socket(mut self, socket: &Path) -> Self {
        self.socket = Some(socket.to_owned());
        self
    }

    /// In a state folder that an earlier run left behind.
    #[must_use]
    pub fn in_state(mut self, state: &Path) -> Self {
        self.state = Some(state.to_owned());
        self
    }

    /// Starts the binary and waits until it is ready.
    ///
    /// # Errors
    /// Where the binary is missing, ends early, or is not ready within [`PATIENCE`]; its own words are in the error.
    pub async fn run(self) -> anyhow::Result<Checkgate> {
        let scratch = TempDir::new()?;
        let state = self.state.clone().unwrap_or_else(|| scratch.path().join("state"));
        let (address, admin) = (free_address()?, free_address()?);
        let said = scratch.path().join("stderr");
        let mut command = self.command(&scratch, &state)?;
        let listen = match &self.socket {
            Some(socket) => format!("unix:{}", socket.display()),
            None => address.to_string(),
        };
        command.args(["--listen", &listen, "--admin", &admin.to_string()]);
        let arguments = command.get_args().map(ToOwned::to_owned).collect();
        // Appended to, since the processes that take over write to it as well.
        let stderr = File::options().create(true).append(true).open(&said)?;
        let child = command.stderr(stderr).spawn().context("the binary does not start")?;
        let mut running =
            Checkgate { child, leaving: Vec::new(), arguments, address, admin, state, scratch, said };
        running.wait_until_ready().await?;
        Ok(running)
    }

    fn command(&self, scratch: &TempDir, state: &Path) -> anyhow::Result<Command> {
        let mut command = Command::new(binary()?);
        command.arg("run").stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(config) = &self.config {
            let file = scratch.path().join("checkgate.yaml");
            fs::write(&file, serde_json::to_string_pretty(config)?)?;
            command.arg("-c").arg(file);
        }
        if let Some(file) = &self.file {
            command.arg("-c").arg(file);
        }
        command.arg("--state").arg(state);
        command.arg("--findings").arg(scratch.path().join("findings.jsonl"));
        command.args(&self.arguments);
        Ok(command)
    }
}

/// A running checkgate; dropping it ends it.
#[derive(Debug)]
pub struct Checkgate {
    child: Child,
    /// Processes that another one took over from and that have not ended yet.
    leaving: Vec<Child>,
    arguments: Vec<OsString>,
    /// Where it accepts requests.
    pub address: SocketAddr,
    /// Where operators ask.
    pub admin: SocketAddr,
    /// Its state folder.
    pub state: PathBuf,
    scratch: TempDir,
    said: PathBuf,
}

impl Checkgate {
    async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("checkgate ended with {status} before it was ready:\n{}", self.log());
            }
            if self.ask("/readyz").await.is_ok_and(|reply| reply.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("checkgate was not ready within {PATIENCE:?}:\n{}", self.log())
    }

    /// GET on the operators' listener.
    ///
    /// # Errors
    /// Where no answer comes.
    pub async fn ask(&self, path: &str) -> anyhow::Result<Reply> {
        Client::to(self.admin).get(path).await
    }

    /// A client of the proxy whose address is `source`, such as `127.0.0.7`.
    #[must_use]
    pub fn client(&self, source: &str) -> Client {
        Client::to(self.address).from(source)
    }

    /// What the program wrote to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// The findings file as it stands.
    #[must_use]
    pub fn findings(&self) -> String {
        fs::read_to_string(self.findings_file()).unwrap_or_default()
    }

    /// Where the findings file stands.
    #[must_use]
    pub fn findings_file(&self) -> PathBuf {
        self.scratch.path().join("findings.jsonl")
    }

    /// Findings and decisions written so far, one JSON object a line. A line that is still being written is left.
    ///
    /// # Errors
    /// Where a whole line is not JSON.
    pub fn records(&self) -> anyhow::Result<Vec<Value>> {
        let text = self.findings();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// The records as soon as one of them fulfils `wanted`.
    ///
    /// # Errors
    /// Where none does within [`PATIENCE`]; the error shows what there was.
    pub async fn records_with(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Vec<Value>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = self.records()?;
            if records.iter().any(&wanted) {
                return Ok(records);
            }
            ensure!(
                Instant::now() < deadline,
                "no such record within {PATIENCE:?} among {records:#?}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The value of a metric, summed over the series of `name` whose labels contain every text of `labels`.
    ///
    /// # Errors
    /// Where the metrics cannot be read.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<f64> {
        let text = String::from_utf8(self.ask("/metrics").await?.body.to_vec())?;
        Ok(text.lines().filter_map(|line| sample(line, name, labels)).sum())
    }

    /// Its config file, where it was started with one of its own.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.scratch.path().join("checkgate.yaml")
    }

    /// Puts `text` in the place of its config file, whole or not at all, without saying so.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn configure(&self, text: &str) -> anyhow::Result<()> {
        let draft = self.scratch.path().join("draft.yaml");
        fs::write(&draft, text)?;
        Ok(fs::rename(draft, self.config_file())?)
    }

    /// Puts `text` in the place of its config file, asks it to reload (SIGHUP), and gives what it says of its
    /// configuration once it has read it.
    ///
    /// # Errors
    /// Where it does not read it within [`PATIENCE`].
    pub async fn reload(&self, text: &str) -> anyhow::Result<Value> {
        let before = self.config().await?;
        self.configure(text)?;
        self.signal("HUP")?;
        self.config_with("the reload", |config| config["read"] != before["read"]).await
    }

    /// What it says of its configuration.
    ///
    /// # Errors
    /// Where the admin API does not answer.
    pub async fn config(&self) -> anyhow::Result<Value> {
        Ok(self.ask("/v1/status").await?.json()?["config"].take())
    }

    /// What it says of its configuration as soon as that fulfils `wanted`.
    ///
    /// # Errors
    /// Where it does not within [`PATIENCE`].
    pub async fn config_with(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let config = self.config().await?;
            if wanted(&config) {
                return Ok(config);
            }
            ensure!(Instant::now() < deadline, "{what}: still {config:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Has another process of the same binary, with the same arguments and `more`, take over from this one, and waits
    /// until it decides.
    ///
    /// # Errors
    /// Where it does not take over within [`PATIENCE`].
    pub async fn hand_over(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let mut successor = self.successor(more)?;
        let deadline = Instant::now() + PATIENCE;
        let pid = format!("pid={} ", successor.id());
        loop {
            if let Some(status) = successor.try_wait()? {
                bail!("the successor ended with {status}:\n{}", self.log());
            }
            if self.log().lines().any(|line| line.contains("decides from here on") && line.contains(&pid)) {
                break;
            }
            ensure!(Instant::now() < deadline, "there was no hand-over:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.follow(successor);
        Ok(())
    }

    /// Follows a process that took over instead of this one, which is gone or goes.
    pub fn follow(&mut self, successor: Child) {
        self.leaving.push(std::mem::replace(&mut self.child, successor));
    }

    /// Starts a process that is to take over from this one, with the same arguments but for the flags in `more`,
    /// each followed by its value.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn successor(&self, more: &[&str]) -> anyhow::Result<Child> {
        let said = File::options().append(true).open(&self.said)?;
        let given = |flag: &OsString| more.iter().any(|replaced| flag == replaced);
        let mut arguments = self.arguments.clone();
        while let Some(place) = arguments.iter().position(given) {
            arguments.drain(place..place + 2);
        }
        let mut command = Command::new(binary()?);
        command.args(arguments).arg("--take-over").args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        command.spawn().context("the successor does not start")
    }

    /// Waits until every process that was taken over from has ended, each with success.
    ///
    /// # Errors
    /// Where one does not end within [`PATIENCE`], or fails.
    pub async fn predecessors_ended(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for predecessor in &mut self.leaving {
            let status = loop {
                if let Some(status) = predecessor.try_wait()? {
                    break status;
                }
                ensure!(Instant::now() < deadline, "a predecessor is still there");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            ensure!(status.success(), "a predecessor ended with {status}");
        }
        Ok(())
    }

    /// Sends the process a signal, such as `HUP`.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status()?;
        ensure!(status.success(), "SIG{name} did not reach the process");
        Ok(())
    }

    /// Runs the binary with `arguments`, such as `kill-switch on`, on this run's state folder.
    ///
    /// # Errors
    /// Where the command fails.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(binary()?).args(arguments).arg("--state").arg(&self.state).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Asks the process to end (SIGTERM), and waits until everything it had to write is written.
    ///
    /// # Errors
    /// Where it does not end within [`PATIENCE`].
    pub async fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal("TERM").ok();
        self.ended().await
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// Where it does not end within [`PATIENCE`].
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "checkgate did not end within {PATIENCE:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Checkgate {
    fn drop(&mut self) {
        for child in self.leaving.iter_mut().chain([&mut self.child]) {
            // Both fail only where the process has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            for line in tail.iter().rev() {
                // The test harness shows standard error of a failed test only.
                #[allow(clippy::print_stderr)]
                {
                    eprintln!("checkgate: {line}");
                }
            }
        }
    }
}

/// The sample on one line of the text exposition format, where its name and labels fit.
fn sample(line: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    if !rest.starts_with(['{', ' ']) {
        return None;
    }
    let (series, value) = rest.rsplit_once(' ')?;
    labels.iter().all(|label| series.contains(label)).then(|| value.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn a_sample_is_taken_by_whole_name_and_by_labels() {
        let line = r#"checkgate_shed_total{model="pricing",part="asked"} 3"#;
        assert_eq!(sample(line, "checkgate_shed_total", &[]), Some(3.0));
        assert_eq!(sample(line, "checkgate_shed_total", &[r#"model="pricing""#]), Some(3.0));
        assert_eq!(sample(line, "checkgate_shed_total", &[r#"model="digits""#]), None);
        assert_eq!(sample(line, "checkgate_shed", &[]), None, "a prefix of a name is another metric");
        assert_eq!(sample("# HELP checkgate_shed_total x", "checkgate_shed_total", &[]), None);
    }
}
