//! The command line: what can be asked of checkgate, and where each answer is made.

mod audit;
mod check;
mod clients;
mod decisions;
mod doctor;
mod drift;
mod events;
mod explain;
mod findings;
mod kill_switch;
mod lists;
mod never_block;
mod reference;
mod rehearse;
mod remote;
mod replay;
mod report;
mod run;
mod sinks;
mod status;
pub mod table;
mod token;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::demo;

pub(crate) use self::table::table;

const AFTER_HELP: &str = "\
Start with:
  checkgate demo                                       watch an attack being recognised and blocked
  checkgate run --upstream http://127.0.0.1:8080       stand in front of a model server and observe
  checkgate run -c checkgate.yaml                      the same with a configuration file
  checkgate check -c checkgate.yaml                    say what is wrong with one, and the mend
  checkgate doctor -c checkgate.yaml                   say what is wrong with an installation, and the mend
  checkgate rehearse -c checkgate.yaml                 see what recorded attacks would get away with

Nothing is blocked until a model is put into `--mode enforce`.";

/// An inline inference proxy that recognises attacks on a model through its API, and blocks them.
#[derive(Parser)]
#[command(name = "checkgate", version, after_help = AFTER_HELP, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Stand in front of model servers: forward, watch, decide, and in `enforce` act.
    Run(Box<run::RunArgs>),
    /// Show the main job on this machine: a real model, honest clients, an adversary.
    Demo(demo::Options),
    /// Check a configuration file and say what is wrong, where, and the mend.
    Check(check::CheckArgs),
    /// Say what is wrong with an installation, and the mend: configuration, machine, model servers, running instance.
    Doctor(doctor::DoctorArgs),
    /// Run a recording through the same engine; prints its findings and decisions.
    Replay(replay::ReplayArgs),
    /// Say what a policy would have done: to recorded clients, and to recorded attackers.
    Rehearse(Box<rehearse::RehearseArgs>),
    /// Tell one finding or decision in plain words: who, what, how far over the limit, what next.
    Explain(explain::ExplainArgs),
    /// Say where a running checkgate stands.
    Status(status::StatusArgs),
    /// List, take, lift, approve, reject and extend decisions of a running checkgate.
    Decisions(decisions::DecisionsArgs),
    /// List who asks the models of a running checkgate most, and covers most of what they are asked about.
    Clients(clients::ClientsArgs),
    /// List what the detectors of a running checkgate said.
    Findings(findings::FindingsArgs),
    /// Say what was decided, and whom `enforce` would have met.
    Report(report::ReportArgs),
    /// List and change whom no decision of a running checkgate touches.
    NeverBlock(never_block::NeverBlockArgs),
    /// Make, show and verify references of drift; list and trust what a running checkgate learned.
    #[command(visible_alias = "references")]
    Reference(reference::ReferenceArgs),
    /// Plan how drift is detected, and compare rows with a reference.
    Drift(drift::DriftArgs),
    /// Follow what happens in a running checkgate.
    Events(events::EventsArgs),
    /// List where findings and decisions are sent, try it, and send again what nobody wanted.
    Sinks(sinks::SinksArgs),
    /// Make tokens for the admin API.
    Token(token::TokenArgs),
    /// Print completions for a shell: bash, elvish, fish, powershell or zsh.
    #[command(after_help = "Example:\n  checkgate completions bash > /etc/bash_completion.d/checkgate")]
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Switch enforcement off at once, or on again.
    KillSwitch(kill_switch::KillSwitchArgs),
    /// Look at what the ledger of a state folder holds, check that it is whole, or erase a client from it.
    Audit(audit::AuditArgs),
    /// List the detectors: what each looks for, its source, its parameters.
    Detectors,
    /// List the protocols that bodies are read in.
    Protocols,
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Print the configuration reference as Markdown.
    #[command(hide = true)]
    ReferencePage,
}

/// Where the configuration file is, for the commands that take one.
#[derive(clap::Args, Clone, Debug)]
struct ConfigFile {
    /// Configuration file (YAML); `checkgate schema` describes it, config/examples/ has examples.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Reads the command line and does what it asks.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(*args),
        Command::Demo(options) => run_demo(&options),
        Command::Check(args) => check::check(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Rehearse(args) => rehearse::rehearse(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Status(args) => status::status(&args),
        Command::Decisions(args) => decisions::decisions(&args),
        Command::Clients(args) => clients::clients(&args),
        Command::Report(args) => report::report(&args),
        Command::Findings(args) => findings::findings(&args),
        Command::NeverBlock(args) => never_block::never_block(&args),
        Command::Reference(args) => reference::reference(&args),
        Command::Drift(args) => drift::drift(&args),
        Command::Events(args) => events::events(&args),
        Command::Sinks(args) => sinks::sinks(&args),
        Command::Token(args) => token::token(&args),
        Command::Completions { shell } => completions(shell),
        Command::KillSwitch(args) => kill_switch::kill_switch(&args),
        Command::Audit(args) => audit::audit(&args),
        Command::Detectors => print(&lists::detectors()),
        Command::Protocols => print(&lists::protocols()),
        Command::Schema => print(&lists::schema()),
        Command::ReferencePage => print(&lists::reference_page()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            tell(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says on standard error what went wrong.
fn tell(error: &anyhow::Error) {
    let red = anstyle::AnsiColor::Red.on_default().bold();
    anstream::eprintln!("{red}error{red:#}: {error:#}");
}

fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "checkgate", &mut script);
    print(&String::from_utf8_lossy(&script))
}

fn run_demo(options: &demo::Options) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(demo::run(options))?;
    Ok(if outcome.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes to standard output; a reader that has gone away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<ExitCode> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
