//! `checkgate decisions`: what is decided, and deciding by hand.

use std::process::ExitCode;

use checkgate_config::units::Period;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::print;
use super::remote::{Remote, encoded, query};
use super::run::parse;
use super::table::{items, moment, pretty, table, text};
use crate::told;

const EXAMPLES: &str = "\
Examples:
  checkgate decisions list --status in_force
  checkgate decisions add 203.0.113.7 --for 2h --why 'stolen account, ticket 4711'
  checkgate decisions add key:00f3a2b1c4d5e6f7 --action throttle --for 1d --why 'asked to slow down'
  checkgate decisions add 203.0.113.7 --model pricing --for 2h --why 'asks for nothing else there'
  checkgate decisions extend d-00f3a2b1c4d5e6f7 --for 1d --why 'still at it'
  checkgate decisions lift d-00f3a2b1c4d5e6f7 --why 'a colleague'
  checkgate decisions approve d-00f3a2b1c4d5e6f7";

/// Entries of one page.
const PAGE: usize = 500;

/// Arguments of `checkgate decisions`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DecisionsArgs {
    #[command(subcommand)]
    command: DecisionsCommand,
}

#[derive(Debug, Subcommand)]
enum DecisionsCommand {
    /// List decisions, the newest first.
    List(List),
    /// Show one decision and why it was taken.
    Show(One),
    /// Decide by hand: refuse, slow down, degrade or tag a client for a time.
    Add(Add),
    /// End a decision before its time.
    Lift(Change),
    /// Have a proposed decision act.
    Approve(Change),
    /// Turn a proposed decision down.
    Reject(Change),
    /// Have a decision end at another time.
    Extend(Extend),
    /// Make links that approve or reject a proposed decision once, without a token.
    Link(One),
}

#[derive(Args, Debug)]
struct List {
    /// Where it stands: proposed, in_force, observed, rejected, lifted or ended.
    #[arg(long)]
    status: Option<String>,
    /// Its client, as decisions write it.
    #[arg(long)]
    client: Option<String>,
    /// The model that was asked.
    #[arg(long)]
    model: Option<String>,
    /// Where it holds: model or everywhere.
    #[arg(long)]
    scope: Option<String>,
    /// The detector that found why, or `operator`.
    #[arg(long)]
    detector: Option<String>,
    /// What is done to the client.
    #[arg(long)]
    action: Option<Action>,
    /// Taken within this time, such as 30m or 7d.
    #[arg(long, value_name = "TIME", value_parser = parse::<Period>)]
    since: Option<Period>,
    /// Entries at most.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    Tag,
    Throttle,
    Degrade,
    Block,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Throttle => "throttle",
            Self::Degrade => "degrade",
            Self::Block => "block",
        }
    }
}

#[derive(Args, Debug)]
struct One {
    /// Id of the decision (d-...).
    id: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
struct Change {
    /// Id of the decision (d-...).
    id: String,
    /// Why; it stands in the ledger.
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args, Debug)]
struct Extend {
    #[command(flatten)]
    change: Change,
    /// For how long from now on, such as 30m or 7d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse::<Period>)]
    lasts: Period,
}

#[derive(Args, Debug)]
struct Add {
    /// On whom: an address, a network such as 192.0.2.0/24, or key: and 16 hexadecimal digits.
    client: String,
    /// For how long, such as 30m or 7d.
    #[arg(long = "for", value_name = "TIME", value_parser = parse::<Period>)]
    lasts: Period,
    /// Why; it stands in the ledger and in the record.
    #[arg(long)]
    why: String,
    /// What is done to the client.
    #[arg(long, default_value = "block")]
    action: Action,
    /// The model at which it holds [default: every model in enforce].
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Does what was asked.
pub fn decisions(args: &DecisionsArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        DecisionsCommand::List(list) => list.run(),
        DecisionsCommand::Show(one) => {
            let decision = one.remote.get(&path(&one.id, ""))?;
            print(&if one.remote.json { pretty(&decision) } else { shown(&decision) })
        }
        DecisionsCommand::Add(add) => add.run(),
        DecisionsCommand::Lift(change) => {
            let why = query(&[("why", Some(change.why.clone()))]);
            change.remote.ask(Method::DELETE, &format!("{}{why}", path(&change.id, "")), None)?;
            print(&format!("{} is lifted\n", change.id))
        }
        DecisionsCommand::Approve(change) => change.post("approve", &json!({ "why": change.why })),
        DecisionsCommand::Reject(change) => change.post("reject", &json!({ "why": change.why })),
        DecisionsCommand::Extend(Extend { change, lasts }) => {
            change.post("extend", &json!({ "seconds": lasts.0.as_secs(), "why": change.why }))
        }
        DecisionsCommand::Link(one) => one.link(),
    }
}

fn path(id: &str, what: &str) -> String {
    format!("/v1/decisions/{}{what}", encoded(id))
}

impl List {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.remote.get(&format!("/v1/decisions{}", self.query(cursor)))?;
            all.extend(items(&page, "decisions").cloned());
            let known = |id: &str| all.iter().any(|decision| text(decision, "id") == id);
            let filters = [&self.status, &self.model, &self.scope, &self.detector];
            let unfiltered = filters.iter().all(|filter| filter.is_none());
            let active = items(&page, "active").filter(|_| unfiltered && self.since.is_none());
            let unknown: Vec<Value> =
                active.filter(|active| !known(&text(active, "decision_id"))).map(at_gate).collect();
            cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || all.len() >= self.limit {
                all.extend(unknown);
                break;
            }
        }
        all.truncate(self.limit);
        if self.remote.json {
            return print(&pretty(&Value::Array(all)));
        }
        let row = |decision: &Value| {
            let cells = ["id", "client", "model", "scope", "detector", "action", "status"];
            let mut row: Vec<_> = cells.iter().map(|key| text(decision, key)).collect();
            row.push(moment(decision, "until"));
            row
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        print(&table(&["ID", "CLIENT", "MODEL", "SCOPE", "DETECTOR", "ACTION", "STATUS", "UNTIL"], &rows))
    }

    fn query(&self, cursor: Option<String>) -> String {
        let since = self.since.map(|since| {
            let now = crate::clock::now().seconds();
            (now - since.0.as_secs_f64()).max(0.0).to_string()
        });
        query(&[
            ("limit", Some(self.limit.clamp(1, PAGE).to_string())),
            ("cursor", cursor),
            ("status", self.status.clone()),
            ("client", self.client.clone()),
            ("model", self.model.clone()),
            ("scope", self.scope.clone()),
            ("detector", self.detector.clone()),
            ("action", self.action.map(|action| action.word().to_owned())),
            ("since", since),
        ])
    }
}

/// What stands at the gate, in the shape of a decision.
fn at_gate(active: &Value) -> Value {
    let record = active.get("record").cloned().unwrap_or_default();
    let acts = active.get("acts") == Some(&Value::Bool(true));
    json!({
        "id": active["decision_id"], "client": active["client"], "model": record["model"],
        "scope": active["scope"], "detector": record["detector"], "action": active["action"],
        "status": if acts { "in_force" } else { "observed" },
        "since": active["since"], "until": active["until"], "record": record,
    })
}

impl Add {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let mut body = json!({
            "client": self.client,
            "action": self.action.word(),
            "seconds": self.lasts.0.as_secs(),
            "why": self.why,
        });
        if let (Some(model), Some(body)) = (&self.model, body.as_object_mut()) {
            body.insert("model".to_owned(), Value::from(model.as_str()));
        }
        let taken = self.remote.ask(Method::POST, "/v1/decisions", Some(&body))?;
        print(&if self.remote.json { pretty(&taken) } else { line(&taken) })
    }
}

impl Change {
    fn post(&self, what: &str, body: &Value) -> anyhow::Result<ExitCode> {
        let taken = self.remote.ask(Method::POST, &path(&self.id, &format!("/{what}")), Some(body))?;
        print(&if self.remote.json { pretty(&taken) } else { line(&taken) })
    }
}

impl One {
    fn link(&self) -> anyhow::Result<ExitCode> {
        let links = self.remote.ask(Method::POST, &path(&self.id, "/links"), Some(&json!({})))?;
        if self.remote.json {
            return print(&pretty(&links));
        }
        let (approve, reject) = (text(&links, "approve"), text(&links, "reject"));
        print(&format!("approve  {approve}\nreject   {reject}\nuntil    {}\n", moment(&links, "expires")))
    }
}

/// A change in one line, with what keeps the decision back.
fn line(taken: &Value) -> String {
    let at_one = text(taken, "scope") == "model";
    let at = if at_one { format!(" at {}", told::clean(&text(taken, "model"))) } else { String::new() };
    let mut line = format!(
        "{}: {} {}{at}, {} until {}",
        text(taken, "id"),
        text(taken, "action"),
        told::clean(&text(taken, "client")),
        text(taken, "status"),
        moment(taken, "until"),
    );
    let kept_back = text(taken, "kept_back");
    if !kept_back.is_empty() {
        line.push_str(&format!("\nit does not act: {kept_back}"));
    }
    if taken.get("durable") == Some(&Value::Bool(false)) {
        line.push_str("\na restart forgets this: the ledger is not durable (checkgate status says more)");
    }
    line + "\n"
}

fn shown(decision: &Value) -> String {
    let why = decision.get("record").map(|record| text(record, "explanation")).unwrap_or_default();
    format!("{}{}\n", line(decision), told::clean(&why))
}
