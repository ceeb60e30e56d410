//! The narrator: what happens on the wire, as lines on a terminal.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use tokio::time::Instant;

use super::event::{Event, Exchange, Record, Reply, Role};
use super::summary::{self, Bar, Row};
use super::tally::Tally;
use super::tariff::{NAMES, Quote};
use super::text::{clock, until_text, wrap};

/// Lines are never longer, however wide the terminal is.
const WIDTH_MAX: usize = 100;
/// Lines are never cut shorter, however narrow it is.
const WIDTH_MIN: usize = 60;
/// Columns before the text of a line: the time and who acts.
const MARGIN: usize = 22;
/// Columns for a question, before its answer.
const QUESTION: usize = 24;
/// Columns for what a row of the summary is about.
const LABEL: usize = 39;
/// Columns beside the bars of the summary.
const BAR_MARGIN: usize = 34;
/// One mark of a price bar, in euros.
const EUROS_PER_MARK: f64 = 40.0;

const PLAIN: Style = Style::new();
const FAINT: Style = Style::new().dimmed();
const STRONG: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const NOTICE: Style = AnsiColor::Cyan.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const MODEL: Style = AnsiColor::Magenta.on_default().bold();
const ALARM: Style = AnsiColor::Red.on_default().bold();

/// Tells the story, and keeps the tally of it.
pub struct Narrator {
    /// What was counted so far.
    pub tally: Tally,
    output: anstream::AutoStream<std::io::Stdout>,
    started: Instant,
    width: usize,
    /// Replies to honest clients since the last traffic line, a mark each.
    marks: String,
    /// The last negative price that the model computed for each client, until its fate is known.
    negative_prices: HashMap<Arc<str>, f64>,
    /// Whether the first negative price was told.
    negative_told: bool,
    /// Detectors and clients whose finding was told; repeats are counted.
    told: HashSet<(String, String)>,
}

impl Narrator {
    /// A narrator on standard output; colours where it is a terminal and nobody forbids them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tally: Tally::default(),
            output: anstream::stdout(),
            started: Instant::now(),
            width: terminal_width(),
            marks: String::new(),
            negative_prices: HashMap::new(),
            negative_told: false,
            told: HashSet::new(),
        }
    }

    /// Opens the story.
    pub fn title(&mut self, text: &str) {
        self.print(PLAIN, "");
        for line in wrap(text, self.width) {
            self.print(STRONG, &line);
        }
        self.print(PLAIN, "");
    }

    /// A step of setting the stage.
    pub fn stage(&mut self, who: &str, text: &str) {
        self.line(NOTICE, who, PLAIN, text);
    }

    /// A file's content, as it is.
    pub fn file(&mut self, content: &str) {
        for line in content.lines() {
            self.print(FAINT, &format!("      | {line}"));
        }
    }

    /// Counts an event and tells it.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Exchanged(exchange) => self.exchanged(exchange),
            Event::Said { client, text } => self.line(NOTICE, client, NOTICE, text),
            Event::NegativePrice { client, quote, price } => self.negative_price(client, quote, *price),
            Event::Recorded(record) => self.recorded(record),
        }
    }

    /// Tells of the honest clients since the last call: one mark for each reply.
    pub fn traffic(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        let marks = std::mem::take(&mut self.marks);
        let text = format!("{} {} requests", marks, marks.len());
        let style = if marks.contains(['!', 'x', '?']) { ALARM } else { GOOD };
        self.line(GOOD, "honest", style, &text);
    }

    /// Ends the story: what it came to.
    pub fn summary(&mut self) {
        self.traffic();
        self.title("What happened");
        for Row { name, text, holds } in summary::rows(&self.tally) {
            let style = if holds { GOOD } else { ALARM };
            let indent = format!("\n{:LABEL$}", "");
            let text = wrap(&text, self.width.saturating_sub(LABEL)).join(&indent);
            let label = format!("  {name}");
            self.print(PLAIN, &format!("{label:<LABEL$}{style}{text}{style:#}"));
        }
        self.requests_by_client();
        for complaint in self.tally.complaints() {
            self.print(ALARM, &format!("\n  This demo failed: {complaint}."));
        }
    }

    /// A heading with commands under it, each with what it is good for.
    pub fn commands(&mut self, heading: &str, commands: &[(String, &str)]) {
        self.title(heading);
        for (command, purpose) in commands {
            for line in wrap(purpose, self.width.saturating_sub(4)) {
                self.print(FAINT, &format!("  # {line}"));
            }
            self.print(PLAIN, &format!("  {command}"));
        }
    }

    fn exchanged(&mut self, exchange: &Exchange) {
        self.tally.exchanged(exchange);
        let known = self.tally.clients.get(&exchange.client).is_some_and(|account| account.requests > 1);
        if exchange.role == Role::Honest {
            self.marks.push(mark(&exchange.reply));
        }
        // An honest client is introduced once; after that, only what it should never see is worth a line.
        if exchange.role == Role::Honest && known && matches!(exchange.reply, Reply::Prices(_)) {
            return;
        }
        let (style, reply) = self.reply_text(exchange);
        let text = format!("{:<QUESTION$} {reply}", exchange.question);
        let who = if exchange.role == Role::Honest { GOOD } else { WARNING };
        self.line(who, &exchange.client, style, &text);
        if matches!(exchange.reply, Reply::Blocked { .. }) {
            self.unmask();
        }
    }

    /// Says once whom a decision is about, as soon as both the record and the client's 403 are there.
    fn unmask(&mut self) {
        for block in self.tally.blocks.clone() {
            let Some(name) = self.tally.unmasked(&block).cloned() else { continue };
            if self.told.insert((String::new(), block.client.clone())) {
                let text = format!("{} is {name}: records hold only the hash of a key", block.client);
                self.line(NOTICE, "proxy", FAINT, &text);
            }
        }
    }

    fn reply_text(&mut self, exchange: &Exchange) -> (Style, String) {
        let negative_price = self.negative_prices.remove(&exchange.client);
        match &exchange.reply {
            Reply::Prices(prices) => (PLAIN, prices_text(prices, self.bar_width())),
            Reply::Refused(detail) => {
                let instead =
                    negative_price.map_or(detail.clone(), |price| format!("withheld: {price:.2} never left"));
                (WARNING, format!("422 {instead}"))
            }
            Reply::Blocked { decision, retry_after } => {
                (ALARM, format!("403 blocked: {decision}, Retry-After {retry_after} s"))
            }
            Reply::Failed(status, beginning) => (ALARM, format!("{status} {beginning}")),
        }
    }

    fn bar_width(&self) -> usize {
        self.width.saturating_sub(MARGIN + QUESTION + 12)
    }

    /// The first is told with its quote; of the others the reply line tells what became of them.
    fn negative_price(&mut self, client: &Arc<str>, quote: &Quote, price: f64) {
        if self.negative_prices.insert(Arc::clone(client), price).is_some() || self.negative_told {
            return;
        }
        self.negative_told = true;
        let text = format!("computed {price:.2}: {client} would be paid for being insured");
        self.line(MODEL, "model", MODEL, &text);
        self.line(MODEL, "", FAINT, &format!("for {}", describe(quote)));
    }

    fn recorded(&mut self, record: &Record) {
        self.tally.recorded(record);
        match record.kind.as_str() {
            "decision" => self.decision(record),
            "drift" => self.drift(record),
            _ => self.finding(record),
        }
    }

    fn drift(&mut self, record: &Record) {
        let Record { model, change, explanation, time, .. } = record;
        let clock = clock(*time);
        let text = match change.as_str() {
            "drifting" => format!("{model}: drifting since {clock}"),
            "recovered" => format!("{model}: recovered at {clock}"),
            change => format!("{model}: {change} at {clock}"),
        };
        let style = if change == "recovered" { GOOD } else { WARNING };
        self.line(style, "DRIFT", style, &text);
        self.line(style, "", PLAIN, explanation);
    }

    fn decision(&mut self, record: &Record) {
        let id = record.decision_id.as_deref().unwrap_or("without an id");
        let until = record.until.map_or_else(String::new, |until| until_text(record.time, until));
        let Record { action, client, detector, mode, .. } = record;
        let text = format!("{action} {client} {until}, because of {detector} ({mode}, {id})");
        self.line(ALARM, "DECISION", ALARM, &text);
        self.unmask();
    }

    fn finding(&mut self, record: &Record) {
        if !self.told.insert((record.detector.clone(), record.client.clone())) {
            return;
        }
        let Record { detector, atlas, client, explanation, .. } = record;
        self.line(WARNING, "FINDING", WARNING, &format!("{detector} ({atlas}) on {client}"));
        self.line(WARNING, "", PLAIN, explanation);
    }

    fn requests_by_client(&mut self) {
        self.print(PLAIN, "");
        for bar in summary::bars(&self.tally, self.width.saturating_sub(BAR_MARGIN)) {
            let Bar { client, requests, answered, withheld, blocked } = bar;
            let marks = format!("{GOOD}{answered}{WARNING}{withheld}{ALARM}{blocked}{ALARM:#}");
            self.print(PLAIN, &format!("  {client:<14}{requests:>5} requests  {marks}"));
        }
        self.print(FAINT, "\n  # answered   ! withheld by the contract   x blocked");
    }

    /// One line of the story, wrapped under its text.
    fn line(&mut self, who_style: Style, who: &str, style: Style, text: &str) {
        let time = format!("{:5.1}s", self.started.elapsed().as_secs_f64());
        let mut margin = format!("{FAINT}{time:>6}{FAINT:#}  {who_style}{who:<12}{who_style:#}  ");
        for part in wrap(text, self.width.saturating_sub(MARGIN)) {
            self.print(PLAIN, &format!("{margin}{style}{part}{style:#}"));
            margin = " ".repeat(MARGIN);
        }
    }

    fn print(&mut self, style: Style, text: &str) {
        // A terminal that is gone is no reason to stop: the outcome still counts.
        let _ = writeln!(self.output, "{style}{text}{style:#}");
    }
}

impl Default for Narrator {
    fn default() -> Self {
        Self::new()
    }
}

fn terminal_width() -> usize {
    let width = terminal_size::terminal_size().map_or(WIDTH_MAX, |(width, _)| usize::from(width.0));
    width.clamp(WIDTH_MIN, WIDTH_MAX)
}

fn mark(reply: &Reply) -> char {
    match reply {
        Reply::Prices(_) => '.',
        Reply::Refused(_) => '!',
        Reply::Blocked { .. } => 'x',
        Reply::Failed(..) => '?',
    }
}

fn prices_text(prices: &[f64], bar_width: usize) -> String {
    match prices {
        [price] => {
            let marks = (price / EUROS_PER_MARK).max(0.0) as usize;
            format!("{price:9.2}  {}", "#".repeat(marks.min(bar_width)))
        }
        prices => {
            let lowest = prices.iter().copied().fold(f64::INFINITY, f64::min);
            let highest = prices.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{lowest:9.2} to {highest:.2}")
        }
    }
}

fn describe(quote: &Quote) -> String {
    NAMES.iter().zip(quote).map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cheaper_price_has_a_shorter_bar() {
        assert_eq!(prices_text(&[200.0], 9), "   200.00  #####");
        assert_eq!(prices_text(&[2_000.0], 9), "  2000.00  #########");
        assert_eq!(prices_text(&[-50.0], 9), "   -50.00  ");
        assert_eq!(prices_text(&[2.0, 1.0], 9), "     1.00 to 2.00");
    }
}
