//! The summary: what the story came to, as rows and bars.

use std::sync::Arc;

use super::tally::Tally;
use super::text::until_text;

/// One row: what, how it came out, and whether that is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What the row is about.
    pub name: &'static str,
    /// How it came out.
    pub text: String,
    /// Whether that is as it should be.
    pub holds: bool,
}

/// One client's requests, as marks of a common scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Whose.
    pub client: Arc<str>,
    /// How many there were.
    pub requests: u64,
    /// A `#` for each share that was answered.
    pub answered: String,
    /// A `!` for each share whose answer was withheld or failed.
    pub withheld: String,
    /// An `x` for each share that a decision refused.
    pub blocked: String,
}

/// The rows of the summary, the most important first.
#[must_use]
pub fn rows(tally: &Tally) -> Vec<Row> {
    let (honest, adversary, served) = (tally.honest(), tally.adversary(), tally.served);
    let (blocked, left) = (tally.honest_clients_blocked(), tally.negative_prices_left);
    let until_block = adversary.requests_before_block.to_string();
    let negative = served.negative_prices;
    let findings = tally.findings.iter().map(|(detector, count)| format!("{count} {detector}"));
    let findings = findings.collect::<Vec<_>>().join(", ");
    let mut rows = vec![
        row("honest requests (rows)", format!("{} ({})", honest.requests, honest.rows), honest.requests > 0),
        row("honest clients blocked", blocked.to_string(), blocked == 0),
        row("negative prices the model computed", negative.to_string(), negative > 0),
        row("negative prices that left the proxy", left.to_string(), left == 0),
        row("adversary's queries until its block", until_block, adversary.blocked > 0),
        row("findings", findings, true),
        row("drift of the renewals", tally.drift.join(", "), tally.drift_was_told()),
    ];
    for block in &tally.blocks {
        let client = tally.unmasked(block).map_or(block.client.as_str(), |name| name);
        let id = block.decision_id.as_deref().unwrap_or("no id");
        let until = block.until.map_or_else(String::new, |until| until_text(block.time, until));
        let text = format!("{client}, by {} ({}), decision {id}, {until}", block.detector, block.atlas);
        rows.push(row("blocked", text, true));
    }
    rows
}

fn row(name: &'static str, text: String, holds: bool) -> Row {
    Row { name, text, holds }
}

/// Each client's bar; the longest has `width` marks, and a share that is not zero has at least one.
#[must_use]
pub fn bars(tally: &Tally, width: usize) -> Vec<Bar> {
    let most = tally.clients.values().map(|account| account.requests).max().unwrap_or_default().max(1);
    // Each of the three shares may be rounded up by one mark.
    let marks = |count: u64| (count * (width as u64).saturating_sub(2)).div_ceil(most) as usize;
    let bar = tally.clients.iter().map(|(client, account)| {
        let withheld = account.refused + account.failed;
        let answered = account.requests.saturating_sub(withheld + account.blocked);
        Bar {
            client: Arc::clone(client),
            requests: account.requests,
            answered: "#".repeat(marks(answered)),
            withheld: "!".repeat(marks(withheld)),
            blocked: "x".repeat(marks(account.blocked)),
        }
    });
    bar.collect()
}

#[cfg(test)]
mod tests {
    use super::super::tally::Account;
    use super::*;

    #[test]
    fn bars_share_one_scale_and_stay_within_the_width() {
        let mut tally = Tally::default();
        let busy = Account { requests: 100, refused: 1, blocked: 1, ..Account::default() };
        tally.clients.insert("busy".into(), busy);
        tally.clients.insert("calm".into(), Account { requests: 50, ..Account::default() });
        let bars = bars(&tally, 22);
        let lengths: Vec<_> =
            bars.iter().map(|bar| [&bar.answered, &bar.withheld, &bar.blocked].map(String::len)).collect();
        assert_eq!(lengths, [[20, 1, 1], [10, 0, 0]]);
    }

    #[test]
    fn a_story_without_a_block_does_not_hold() {
        let rows = rows(&Tally::default());
        let broken: Vec<_> = rows.iter().filter(|row| !row.holds).map(|row| row.name).collect();
        let expected = [
            "honest requests (rows)",
            "negative prices the model computed",
            "adversary's queries until its block",
            "drift of the renewals",
        ];
        assert_eq!(broken, expected);
    }
}
