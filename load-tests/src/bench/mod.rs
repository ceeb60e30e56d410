//! The benchmark: checkgate and the proxies that it is compared with, side by side on this machine.
//!
//! The benchmark starts every [`contender`] on one core and keeps upstream and load on another; [`rounds`] asks them in
//! turn, in an order that rotates; every single figure is a [`sample`], and what is printed and plotted is computed
//! from the samples alone. CPU time is the kernel's own count of what the processes ran ([`accounting`]).

pub mod accounting;
pub mod contender;
pub mod footprint;
pub mod goals;
pub mod machine;
pub mod markdown;
pub mod options;
pub mod pace;
pub mod parts;
pub mod plot;
pub mod process;
pub mod question;
pub mod rounds;
pub mod sample;
pub mod saturate;
pub mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::options::Options;
use self::sample::Samples;

/// The core that proxies run on.
pub const PROXY_CORE: u32 = 0;
/// The core that upstream and load run on.
pub const LOAD_CORE: u32 = 1;
/// Connections that a saturating or paced load keeps open.
pub const CONNECTIONS: usize = 64;
/// Clients that ask in turn, told apart by their keys.
pub const CLIENTS: usize = 50;

/// Tells the person who watches where the benchmark stands.
#[allow(clippy::print_stderr)]
pub fn progress(line: &str) {
    eprintln!("bench: {line}");
}

/// Where the parts of the benchmark lie.
#[derive(Debug)]
pub struct Places {
    /// `load-tests/bench`.
    pub bench: PathBuf,
    /// The root of the project.
    pub root: PathBuf,
    /// For configurations and sockets of this run.
    pub scratch: tempfile::TempDir,
}

impl Places {
    /// As the sources are laid out.
    ///
    /// # Errors
    /// Where no scratch folder can be made.
    pub fn find() -> anyhow::Result<Self> {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = crate_folder.parent().context("load-tests stands alone")?.to_owned();
        Ok(Self { bench: crate_folder.join("bench"), root, scratch: tempfile::TempDir::new()? })
    }

    /// Writes a file that a contender reads.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.scratch.path().join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Runs the whole benchmark and writes what it found.
///
/// # Errors
/// Where something is missing, does not start, or answers with anything but 200.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let places = Places::find()?;
    machine::pin_to(LOAD_CORE)?;
    let machine = machine::Machine::describe(&places)?;
    let mut samples = Samples::default();
    parts::run(&places, options, &mut samples)?;
    rounds::run(&places, options, &mut samples)?;
    footprint::run(&places, options, &mut samples)?;
    let page = markdown::page(&machine, options, &samples);
    print(&page)?;
    if options.writes {
        publish(&places.root, &page, &samples)?;
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
fn print(page: &str) -> anyhow::Result<()> {
    println!("{page}");
    Ok(())
}

/// Puts tables and plots where the documentation shows them, and every sample beside the benchmark.
fn publish(root: &Path, page: &str, samples: &Samples) -> anyhow::Result<()> {
    let documentation = root.join("docs/performance.md");
    let text = fs::read_to_string(&documentation).with_context(|| documentation.display().to_string())?;
    fs::write(&documentation, markdown::between_markers(&text, page)?)?;
    fs::write(root.join("load-tests/bench/samples.csv"), samples.csv())?;
    fs::write(root.join("docs/img/performance-cpu.svg"), plot::cpu(samples))?;
    fs::write(root.join("docs/img/performance-latency.svg"), plot::latency(samples))?;
    progress("docs/performance.md, docs/img/performance-*.svg and load-tests/bench/samples.csv were written");
    Ok(())
}
