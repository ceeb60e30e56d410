//! `checkgate sinks`: where findings and decisions are sent, whether that works, and what nobody wanted.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use checkgate_config::{Raw, Settings};
use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::time::timeout;

use super::remote::Remote;
use super::table::{items, moment, pretty, table, text};
use super::{ConfigFile, print};
use crate::serve::Source;
use crate::sinks::courier::Ready;
use crate::sinks::cursor::{self, Cursor};
use crate::sinks::dead::{DeadLetters, Letter};
use crate::sinks::steps::{listened, step};
use crate::sinks::{Event, Ground, SINKS, SinkError, SinkSpec, office};
use crate::{clock, state, told};

/// Arguments of `checkgate sinks`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  checkgate sinks list\n  checkgate sinks test siem -c checkgate.yaml\n  \
                        checkgate sinks replay siem -c checkgate.yaml"
)]
pub struct SinksArgs {
    #[command(subcommand)]
    command: SinksCommand,
}

#[derive(Debug, Subcommand)]
enum SinksCommand {
    /// List the sinks of a running checkgate, and how far each has come.
    List(List),
    /// List the parts that a sink can be: what each sends, and an example of its parameters.
    Parts,
    /// Send one test event from here, and say step by step what happened; exits with 1 where it was not taken.
    Test(One),
    /// Send what nobody wanted (the dead letters) again, from here; what is not taken now is kept.
    Replay(One),
}

#[derive(Args, Debug)]
struct List {
    /// Ask nobody: read the positions that stand in the state folder.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
struct One {
    /// The sink's name.
    name: String,
    #[command(flatten)]
    config: ConfigFile,
    /// State folder [default: the configuration's].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// Does what was asked.
pub fn sinks(args: &SinksArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        SinksCommand::List(list) if list.offline => print(&offline(&list.remote.state_folder()?)?),
        SinksCommand::List(list) => {
            let answer = list.remote.get("/v1/sinks")?;
            print(&if list.remote.json { pretty(&answer) } else { listed(&answer) })
        }
        SinksCommand::Parts => print(&parts()),
        SinksCommand::Test(one) => one.with_sink(|ready, instance, _| test(ready, &instance)),
        SinksCommand::Replay(one) => one.with_sink(|ready, _, state| replay(ready, &state)),
    }
}

fn listed(answer: &Value) -> String {
    let row = |sink: &Value| {
        let age = sink.get("backlog_age_seconds").and_then(Value::as_u64).unwrap_or_default();
        let mut row: Vec<_> = ["name", "part", "target", "state", "delivered", "backlog_entries"]
            .map(|key| text(sink, key))
            .into();
        row.extend([format!("{age} s"), moment(sink, "last_delivered"), text(sink, "last_error")]);
        row
    };
    let rows: Vec<_> = items(answer, "sinks").map(row).collect();
    table(
        &[
            "NAME",
            "PART",
            "TARGET",
            "STATE",
            "DELIVERED",
            "BACKLOG",
            "OLDEST",
            "LAST DELIVERED",
            "LAST ERROR",
        ],
        &rows,
    )
}

fn parts() -> String {
    let part = |spec: &SinkSpec| {
        let example: String = spec.example.lines().map(|line| format!("        {line}\n")).collect();
        format!("{}\n    {}\n    {}:\n{example}", spec.name, spec.summary, spec.name)
    };
    SINKS.iter().map(part).collect::<Vec<_>>().join("\n")
}

/// What the state folder says by itself.
fn offline(state: &Path) -> anyhow::Result<String> {
    let folder = cursor::folder(state);
    let files = std::fs::read_dir(&folder)
        .with_context(|| format!("no sink has kept a position in {}", folder.display()))?;
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".cursor")?.to_owned()))
        .collect();
    names.sort_unstable();
    let rows: Vec<_> = names.iter().map(|name| offline_row(state, name)).collect();
    Ok(table(&["NAME", "POSITION", "DEAD LETTERS"], &rows))
}

fn offline_row(state: &Path, name: &str) -> Vec<String> {
    let position = match Cursor::new(state, name).load() {
        Ok(stand) => stand.map(|stand| stand.number.to_string()).unwrap_or_default(),
        Err(error) => format!("cannot be read: {error}"),
    };
    let (letters, _) = DeadLetters::new(state, name).count();
    vec![name.to_owned(), position, letters.to_string()]
}

impl One {
    fn with_sink(
        &self,
        work: impl FnOnce(Ready, Arc<str>, PathBuf) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let file = self.config.config.as_deref().context("which file? give -c FILE")?;
        let source = Source { file: Some(file.to_owned()), flags: Raw::default() };
        let settings = source.read().settings?;
        let state = self.state.clone().unwrap_or_else(|| settings.state.clone());
        let instance = state::instance_id_in(&state);
        let ready = self.ready(&settings, &instance)?;
        work(ready, instance, state)
    }

    fn ready(&self, settings: &Settings, instance: &Arc<str>) -> anyhow::Result<Ready> {
        let Some(sink) = settings.sinks.iter().find(|sink| sink.name == self.name) else {
            let names: Vec<_> = settings.sinks.iter().map(|sink| sink.name.as_str()).collect();
            bail!("there is no sink \"{}\"; configured are: {}", self.name, names.join(", "));
        };
        let environment = |name: &str| std::env::var(name).ok();
        Ok(office::build_one(sink, &Ground { environment: &environment, instance })?)
    }
}

fn test(ready: Ready, instance: &str) -> anyhow::Result<ExitCode> {
    let event = Event::test(instance, clock::now());
    let target = ready.sink.target();
    let mut said = format!("sink {} sends event {} to {target}\n", ready.settings.name, event.id);
    let (sent, steps) = runtime()?.block_on(listened(send(&ready, &event)));
    for step in steps {
        // Writing to a String cannot fail.
        let _ = writeln!(said, "  {}", told::clean(&step));
    }
    let code = match sent {
        Ok(()) => {
            said.push_str("taken\n");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ =
                writeln!(said, "not taken, {}: {}", what_follows(&error), told::clean(&error.to_string()));
            ExitCode::FAILURE
        }
    };
    print(&said)?;
    Ok(code)
}

fn what_follows(error: &SinkError) -> &'static str {
    match error {
        SinkError::Later { .. } => "it would be tried again",
        SinkError::Never { .. } => "it would be put among the dead letters",
        SinkError::Refused { .. } => "somebody has to mend it",
        SinkError::Gone { .. } => "nothing more would be sent",
    }
}

fn replay(ready: Ready, state: &Path) -> anyhow::Result<ExitCode> {
    let dead = DeadLetters::new(state, &ready.settings.name);
    let taken = dead.take()?;
    let (mut sent, mut kept, mut stopped) = (0_u64, 0_u64, None);
    let runtime = runtime()?;
    for letter in &taken.letters {
        if stopped.is_none() {
            match runtime.block_on(send(&ready, &letter.event)) {
                Ok(()) => {
                    sent += 1;
                    continue;
                }
                Err(SinkError::Never { .. }) => {}
                // The others would fare no better now.
                Err(error) => stopped = Some(error.to_string()),
            }
        }
        keep(&dead, letter)?;
        kept += 1;
    }
    let unread = taken.unread;
    taken.done()?;
    let mut said = format!("{sent} dead letters were taken, {kept} were not and are kept\n");
    if unread > 0 {
        let _ = writeln!(said, "{unread} lines held no letter and are gone");
    }
    if let Some(why) = stopped {
        let _ = writeln!(said, "it ended early: {}", told::clean(&why));
    }
    print(&said)?;
    Ok(if kept == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn keep(dead: &DeadLetters, letter: &Letter) -> anyhow::Result<()> {
    let kept = dead.keep(letter).context("a dead letter cannot be kept")?;
    if !kept {
        bail!("the file of dead letters is full; what is left stands beside it and comes first next time");
    }
    Ok(())
}

/// Sends one event within the sink's time.
async fn send(ready: &Ready, event: &Event) -> Result<(), SinkError> {
    let longest = ready.settings.timeout;
    match timeout(longest, ready.sink.send(std::slice::from_ref(event))).await {
        Ok(sent) => sent,
        Err(_) => {
            step(|| format!("no answer within {longest:?}"));
            Err(SinkError::later(format!("no answer within {longest:?}")))
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
