//! Processes of the benchmark: pinned, waited for, and ended with the benchmark.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a process may take until it listens, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running process; dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    /// Starts `words` on one core and waits until it listens on `address`. What it says goes to the file `said`.
    ///
    /// # Errors
    /// Where it does not start, or ends, or does not listen in time; its own words are in the error.
    pub fn start(core: u32, words: &[String], said: PathBuf, address: SocketAddr) -> anyhow::Result<Self> {
        let output = File::create(&said)?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {words:?}"))?;
        let mut process = Self { child, said };
        process.wait_until_listening(address).with_context(|| format!("{words:?}"))?;
        Ok(process)
    }

    fn wait_until_listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}: {}", self.words());
            }
            if Instant::now() > deadline {
                bail!("did not listen on {address} within {PATIENCE:?}: {}", self.words());
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Its id; taskset becomes the process that it starts.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn words(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM first: a killed nginx would leave its worker behind.
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(LOOK_EVERY);
        }
        // Both fail only where the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and gives what it printed, on either stream.
///
/// # Errors
/// Where it cannot be started.
pub fn output_of(words: &[&str]) -> anyhow::Result<String> {
    let (program, arguments) = words.split_first().context("no command")?;
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{words:?}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
