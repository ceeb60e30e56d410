//! The demo: the main job in under a minute, on a real model, through real sockets.
//!
//! A pricing model is trained and served, the proxy is started in front of it as a user would start it, honest
//! clients ask for prices, and an adversary hunts for the cheapest one. Nothing is scripted: what the terminal
//! shows are the answers that the clients got and the findings that the proxy wrote.

pub mod adversary;
pub mod branches;
pub mod caller;
pub mod clients;
pub mod event;
pub mod model_server;
pub mod proxy;
pub mod random;
pub mod regression;
pub mod summary;
pub mod tally;
pub mod tariff;
pub mod terminal;
pub mod text;

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use adversary::{Ending, Hunt};
use caller::{Caller, Person};
use event::{Event, Events, Role};
use model_server::{INFER_PATH, InferRequest, ModelServer, RENEWALS_PATH};
use proxy::Proxy;
use random::Random;
use regression::Regression;
use tally::Tally;
use tariff::{Portfolio, Quote};
use terminal::Narrator;

/// Quotes that the model learns from.
const TRAINING_QUOTES: usize = 3_000;
/// Quotes that it is judged by and never saw.
const HELD_OUT_QUOTES: usize = 1_000;
/// Between two lines about the honest clients.
const TRAFFIC_EVERY: Duration = Duration::from_secs(2);
/// The adversary comes after this share of the time.
const ADVERSARY_ENTERS: f64 = 0.15;
/// The branches ask for renewals from this share of the time on.
const BRANCHES_ENTER: f64 = 0.2;
/// Each of their three parts takes this share of the time at least.
const BRANCHES_PART: f64 = 0.1;
/// The adversary thinks for this share of the time between two questions.
const ADVERSARY_THINKS: f64 = 0.02;
/// Times that the adversary tries again after its block.
const RETRIES: u32 = 2;
/// Kilometres a year that no portfolio has seen.
const ABSURD_MILEAGE: f64 = 120_000.0;

/// What the demo was told.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long the story runs, in seconds.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=600))]
    pub seconds: u32,
    /// Leave the model and the proxy running afterwards, to play with.
    #[arg(long)]
    pub keep: bool,
    /// Seed of the data, the model and the honest clients.
    #[arg(long, value_name = "N", default_value_t = 11)]
    pub seed: u64,
}

/// What the demo came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The counts behind the summary.
    pub tally: Tally,
}

impl Outcome {
    /// Whether everything held: the adversary blocked, no honest client blocked, no negative price let out.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.tally.complaints().is_empty()
    }
}

/// Tells the whole story; every process and file that it needs is gone when it returns.
///
/// # Errors
/// Fails where the model or the proxy cannot be started or ends early, and where it is interrupted.
pub async fn run(options: &Options) -> anyhow::Result<Outcome> {
    let (stage, outcome) = tokio::select! {
        told = Box::pin(tell(options)) => told?,
        interruption = interrupted() => bail!("stopped by {interruption} before the story was told"),
    };
    if options.keep {
        keep(stage).await?;
    }
    Ok(outcome)
}

/// Waits for a signal that asks to stop; gives its name.
async fn interrupted() -> &'static str {
    tokio::select! {
        () = received(SignalKind::interrupt()) => "SIGINT",
        () = received(SignalKind::terminate()) => "SIGTERM",
        () = received(SignalKind::hangup()) => "SIGHUP",
    }
}

async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// What must keep running for as long as anybody asks.
struct Stage {
    narrator: Narrator,
    model: ModelServer,
    proxy: Proxy,
}

async fn tell(options: &Options) -> anyhow::Result<(Stage, Outcome)> {
    let (events, mut heard) = mpsc::channel(event::WAITING_MAX);
    let mut stage = set_stage(options, &events).await?;
    play(options, &mut stage, events, &mut heard).await?;
    while let Ok(event) = heard.try_recv() {
        stage.narrator.hear(&event);
    }
    stage.narrator.tally.served = stage.model.counts();
    stage.narrator.summary();
    if !options.keep {
        stage.narrator.commands("What to do next", &next_steps());
    }
    let tally = stage.narrator.tally.clone();
    Ok((stage, Outcome { tally }))
}

async fn set_stage(options: &Options, events: &Events) -> anyhow::Result<Stage> {
    let mut narrator = Narrator::new();
    narrator.title("checkgate demo: a pricing model, honest clients, and a hunt for the cheapest price");
    let model = serve_model(options, &mut narrator, events).await?;
    let proxy = start_proxy(options.seed, &mut narrator, &model).await?;
    Ok(Stage { narrator, model, proxy })
}

/// Everybody acts until the adversary has given up and the branches are done, or until the time is over.
async fn play(
    options: &Options,
    stage: &mut Stage,
    events: Events,
    heard: &mut mpsc::Receiver<Event>,
) -> anyhow::Result<()> {
    let seconds = f64::from(options.seconds);
    let mut honest = enter(options, &stage.proxy, &events);
    let branches = branches(options, &stage.proxy, &events);
    let adversary = Caller::new(adversary_person(), stage.proxy.address, events);
    let acts = async { tokio::try_join!(attack(adversary, seconds), branches).map(drop) };
    let (narrator, proxy) = (&mut stage.narrator, &mut stage.proxy);
    tokio::select! {
        () = narrate(narrator, heard) => {}
        failure = first_failure(&mut honest) => return Err(failure),
        ended = proxy.ended() => return Err(ended),
        acted = acts => acted?,
        () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {}
    }
    honest.shutdown().await;
    Ok(())
}

async fn serve_model(
    options: &Options,
    narrator: &mut Narrator,
    events: &Events,
) -> anyhow::Result<ModelServer> {
    let model = train(options.seed, narrator)?;
    let keys = cast_list().map(|person| (person.key, person.name)).collect::<HashMap<_, _>>();
    let server = ModelServer::start(model, keys, events.clone()).await?;
    narrator.stage("model", &format!("answers at http://{}{INFER_PATH}", server.address));
    Ok(server)
}

fn train(seed: u64, narrator: &mut Narrator) -> anyhow::Result<Regression> {
    let mut random = Random::new(seed);
    let portfolio = Portfolio::draw(TRAINING_QUOTES, &mut random);
    let started = Instant::now();
    let model = Regression::fit(&portfolio).context("the portfolio is too small to learn from")?;
    let milliseconds = started.elapsed().as_millis();
    let percent = 100.0 * model.explained(&Portfolio::draw(HELD_OUT_QUOTES, &mut random));
    let text = format!(
        "motor insurance, learned just now from {TRAINING_QUOTES} quotes in {milliseconds} ms; explains \
         {percent:.1} % of the variance of {HELD_OUT_QUOTES} quotes it never saw"
    );
    narrator.stage("model", &text);
    Ok(model)
}

async fn start_proxy(seed: u64, narrator: &mut Narrator, model: &ModelServer) -> anyhow::Result<Proxy> {
    let proxy = Proxy::start(model.address, &mut Random::new(seed.wrapping_add(100))).await?;
    narrator.stage("proxy", "checkgate run -c demo.yaml is ready, in a process of its own; demo.yaml says:");
    narrator.file(&proxy.config);
    narrator.stage("clients", "three brokers, a portal and two customers come in; later, a dot is an answer");
    Ok(proxy)
}

/// Everybody with a key to the model.
fn cast_list() -> impl Iterator<Item = Person> {
    let honest = clients::CLIENTS.into_iter().map(|(name, _)| clients::person(name, Role::Honest));
    honest.chain(branch_people()).chain([adversary_person(), clients::person("visitor", Role::Honest)])
}

fn branch_people() -> impl Iterator<Item = Person> {
    branches::BRANCHES.into_iter().map(|name| clients::person(name, Role::Honest))
}

/// The branches' part, which begins a little later than that of the others.
fn branches(
    options: &Options,
    proxy: &Proxy,
    events: &Events,
) -> impl Future<Output = anyhow::Result<()>> + use<> {
    let caller = |person| Caller::new(person, proxy.address, events.clone()).at(RENEWALS_PATH);
    let callers = branch_people().map(caller).collect();
    let random = Random::new(options.seed.wrapping_add(200));
    let share = |share: f64| Duration::from_secs_f64(f64::from(options.seconds) * share);
    let (admin, pause, part) = (proxy.admin, share(BRANCHES_ENTER), share(BRANCHES_PART));
    async move {
        tokio::time::sleep(pause).await;
        branches::act(callers, admin, part, random).await
    }
}

fn adversary_person() -> Person {
    clients::person("adversary", Role::Adversary)
}

/// Lets the honest clients in, and listens to the proxy, until the set is shut down.
fn enter(options: &Options, proxy: &Proxy, events: &Events) -> JoinSet<anyhow::Result<()>> {
    let mut cast = JoinSet::new();
    cast.spawn(proxy::follow_findings(proxy.findings(), events.clone()));
    for (position, (name, habit)) in clients::CLIENTS.into_iter().enumerate() {
        let person = clients::person(name, Role::Honest);
        let caller = Caller::new(person, proxy.address, events.clone());
        let random = Random::new(options.seed.wrapping_add(1 + position as u64));
        cast.spawn(clients::visit(caller, habit, random));
    }
    cast
}

/// The adversary's part: it enters late, hunts, and does not believe its block.
async fn attack(caller: Caller, seconds: f64) -> anyhow::Result<()> {
    let thinks = Duration::from_secs_f64(seconds * ADVERSARY_THINKS);
    tokio::time::sleep(Duration::from_secs_f64(seconds * ADVERSARY_ENTERS)).await;
    let mut hunt = Hunt::new(caller.clone(), thinks);
    if hunt.run().await? == Ending::Blocked {
        tokio::time::sleep(thinks).await;
        caller.say("tries again with the same key").await;
    }
    for _ in 0..RETRIES {
        tokio::time::sleep(thinks * 3).await;
        hunt.retry().await?;
    }
    tokio::time::sleep(thinks * 5).await;
    Ok(())
}

async fn narrate(narrator: &mut Narrator, heard: &mut mpsc::Receiver<Event>) {
    let mut traffic = tokio::time::interval(TRAFFIC_EVERY);
    loop {
        tokio::select! {
            event = heard.recv() => match event {
                Some(event) => narrator.hear(&event),
                None => return,
            },
            _ = traffic.tick() => narrator.traffic(),
        }
    }
}

/// Waits for somebody to fail; whoever leaves in peace is not missed.
async fn first_failure(cast: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    while let Some(left) = cast.join_next().await {
        match left {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return failure,
            Err(panic) => return anyhow::Error::new(panic),
        }
    }
    std::future::pending().await
}

/// Leaves everything running until it is asked to stop.
async fn keep(mut stage: Stage) -> anyhow::Result<()> {
    stage.narrator.commands("Still running, until Ctrl-C", &things_to_try(&stage.proxy)?);
    tokio::select! {
        _ = interrupted() => Ok(()),
        ended = stage.proxy.ended() => Err(ended),
    }
}

fn next_steps() -> Vec<(String, &'static str)> {
    let program = program();
    vec![
        (format!("{program} demo --keep"), "the same, left running, with requests to try by hand"),
        (
            format!("{program} run --upstream http://127.0.0.1:8080"),
            "your own model: it listens on 127.0.0.1:8765, watches, and blocks nobody until told",
        ),
        (
            "curl http://127.0.0.1:8766/metrics".to_owned(),
            "what it then sees, for Prometheus; a Grafana dashboard is in dashboards/",
        ),
        (
            "less README.md docs/ARCHITECTURE.md".to_owned(),
            "what it detects, what it cannot see, how it is built",
        ),
    ]
}

/// This executable as one would type it here.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else { return "checkgate".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(&path).display().to_string()
}

fn things_to_try(proxy: &Proxy) -> anyhow::Result<Vec<(String, &'static str)>> {
    let (url, admin) = (format!("http://{}{INFER_PATH}", proxy.address), proxy.admin);
    let key_header = model_server::KEY_HEADER;
    let question = |name: &str, quote: &Quote| {
        let path = proxy.folder().join(name);
        std::fs::write(&path, serde_json::to_vec_pretty(&InferRequest::of(&[*quote]))?)?;
        anyhow::Ok(path.display().to_string())
    };
    let ask = |key: &str, path: &str| {
        format!("curl -i {url} -H '{key_header}: {key}' -H 'content-type: application/json' -d @{path}")
    };
    let ordinary = question("ordinary.json", &adversary::START)?;
    let absurd = question("absurd.json", &clients::with(&adversary::START, tariff::MILEAGE, ABSURD_MILEAGE))?;
    Ok(vec![
        (ask("demo-visitor", &ordinary), "an ordinary quote"),
        (ask("demo-visitor", &absurd), "one that the model gets wrong: change the file and try"),
        (ask("demo-adversary", &ordinary), "an ordinary quote with the adversary's key"),
        (format!("curl http://{admin}/v1/decisions"), "the decisions that hold now"),
        (format!("curl http://{admin}/metrics"), "what Prometheus would scrape"),
        (format!("ls {}", proxy.folder().display()), "configuration, log, state and findings"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_absurd_question_has_a_negative_answer() {
        let absurd = clients::with(&adversary::START, tariff::MILEAGE, ABSURD_MILEAGE);
        for seed in [1, 2, 3, 11] {
            let portfolio = Portfolio::draw(TRAINING_QUOTES, &mut Random::new(seed));
            let price = Regression::fit(&portfolio).unwrap().price(&absurd);
            assert!(price < 0.0, "seed {seed}: the model still asks for {price}");
        }
    }
}
