//! What is counted while the story runs, and what it must have come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Exchange, Record, Reply, Role};
use super::model_server::ServedCounts;

/// Everything that the summary is made from.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Each client's account, by name.
    pub clients: BTreeMap<Arc<str>, Account>,
    /// Negative prices that reached a client.
    pub negative_prices_left: u64,
    /// Findings, by detector.
    pub findings: BTreeMap<String, u64>,
    /// The block decisions, in order.
    pub blocks: Vec<Record>,
    /// Changes of drift, in order.
    pub drift: Vec<String>,
    /// Who was refused by which decision, as its 403 said.
    pub refused_by: BTreeMap<String, Arc<str>>,
    /// What the model did.
    pub served: ServedCounts,
}

/// One client's account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// On which side it is; nobody's before its first request.
    pub role: Option<Role>,
    /// Requests sent.
    pub requests: u64,
    /// Rows in them.
    pub rows: u64,
    /// Answers withheld by the contract.
    pub refused: u64,
    /// Requests refused by a decision.
    pub blocked: u64,
    /// Requests until the first that was blocked; all of them where none was.
    pub requests_before_block: u64,
    /// Anything else than a price or a refusal.
    pub failed: u64,
}

impl Tally {
    /// Counts an exchange.
    pub fn exchanged(&mut self, exchange: &Exchange) {
        let account = self.clients.entry(Arc::clone(&exchange.client)).or_default();
        account.role = Some(exchange.role);
        account.requests += 1;
        account.rows += exchange.rows as u64;
        match &exchange.reply {
            Reply::Prices(prices) => {
                self.negative_prices_left += prices.iter().filter(|price| **price < 0.0).count() as u64;
            }
            Reply::Refused(_) => account.refused += 1,
            Reply::Blocked { decision, .. } => {
                account.blocked += 1;
                self.refused_by.insert(decision.clone(), Arc::clone(&exchange.client));
            }
            Reply::Failed(..) => account.failed += 1,
        }
        if let Some(account) = self.clients.get_mut(&exchange.client).filter(|account| account.blocked == 0) {
            account.requests_before_block = account.requests;
        }
    }

    /// Counts a finding or a decision.
    pub fn recorded(&mut self, record: &Record) {
        if record.kind == "drift" {
            self.drift.push(record.change.clone());
        } else if record.kind == "finding" {
            *self.findings.entry(record.detector.clone()).or_default() += 1;
        } else if record.action == "block" {
            self.blocks.push(record.clone());
        }
    }

    /// Whom a decision is about. Records hold only the hash of a key; the 403 that a client got gives it away.
    #[must_use]
    pub fn unmasked(&self, block: &Record) -> Option<&Arc<str>> {
        self.refused_by.get(block.decision_id.as_deref()?)
    }

    /// The adversary's account.
    #[must_use]
    pub fn adversary(&self) -> Account {
        let mut adversaries = self.clients.values().filter(|account| account.role == Some(Role::Adversary));
        adversaries.next().cloned().unwrap_or_default()
    }

    /// The honest clients' accounts, added up.
    #[must_use]
    pub fn honest(&self) -> Account {
        let honest = self.clients.values().filter(|account| account.role == Some(Role::Honest));
        honest.fold(Account::default(), |sum, account| Account {
            role: account.role,
            requests: sum.requests + account.requests,
            rows: sum.rows + account.rows,
            refused: sum.refused + account.refused,
            blocked: sum.blocked + account.blocked,
            requests_before_block: sum.requests_before_block + account.requests_before_block,
            failed: sum.failed + account.failed,
        })
    }

    /// How many honest clients were blocked at least once.
    #[must_use]
    pub fn honest_clients_blocked(&self) -> usize {
        let honest = self.clients.values().filter(|account| account.role == Some(Role::Honest));
        honest.filter(|account| account.blocked > 0).count()
    }

    /// Whether a drift was told from its beginning to its end.
    #[must_use]
    pub fn drift_was_told(&self) -> bool {
        let began = self.drift.iter().position(|change| change == "drifting");
        let ended = self.drift.iter().rposition(|change| change == "recovered");
        began.is_some_and(|began| ended.is_some_and(|ended| ended > began))
    }

    /// What went wrong; empty where everything held.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let (honest, adversary) = (self.honest(), self.adversary());
        let checks = [
            (honest.requests == 0, "no honest client asked anything"),
            (honest.blocked > 0, "an honest client was blocked"),
            (honest.refused + honest.failed > 0, "an honest client did not get its price"),
            (adversary.blocked == 0, "the adversary was not blocked"),
            (self.served.negative_prices == 0, "the model never computed a negative price"),
            (self.negative_prices_left > 0, "a negative price left the proxy"),
            (!self.drift_was_told(), "the drift of the renewals was not told from its beginning to its end"),
        ];
        checks.into_iter().filter(|(wrong, _)| *wrong).map(|(_, complaint)| complaint.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(client: &str, role: Role, reply: Reply) -> Exchange {
        Exchange { client: client.into(), role, question: String::new(), rows: 1, reply }
    }

    fn blocked() -> Reply {
        Reply::Blocked { decision: "d-1".into(), retry_after: "900".into() }
    }

    fn good_story() -> Tally {
        let mut tally = Tally { served: ServedCounts { rows: 4, negative_prices: 1 }, ..Tally::default() };
        tally.exchanged(&exchange("broker", Role::Honest, Reply::Prices(vec![300.0])));
        tally.exchanged(&exchange("adversary", Role::Adversary, Reply::Refused("at least 0".into())));
        tally.recorded(&Record {
            kind: "decision".into(),
            action: "block".into(),
            client: "key:1".into(),
            decision_id: Some("d-1".into()),
            ..Record::default()
        });
        tally.exchanged(&exchange("adversary", Role::Adversary, blocked()));
        for change in ["warning", "drifting", "recovered"] {
            tally.recorded(&Record { kind: "drift".into(), change: change.into(), ..Record::default() });
        }
        tally
    }

    #[test]
    fn a_story_that_went_well_has_no_complaints() {
        let tally = good_story();
        assert_eq!(tally.complaints(), Vec::<String>::new());
        assert_eq!(tally.adversary().requests_before_block, 1);
        let unmasked = tally.blocks.first().and_then(|block| tally.unmasked(block));
        assert_eq!(unmasked.map(AsRef::as_ref), Some("adversary"));
    }

    #[test]
    fn every_broken_promise_is_named() {
        let mut tally = good_story();
        tally.exchanged(&exchange("broker", Role::Honest, blocked()));
        tally.exchanged(&exchange("adversary", Role::Adversary, Reply::Prices(vec![-5.0])));
        let complaints = tally.complaints();
        assert_eq!(complaints, ["an honest client was blocked", "a negative price left the proxy"]);
        assert_eq!(tally.honest_clients_blocked(), 1);
        assert_eq!(Tally::default().complaints().len(), 4, "{:?}", Tally::default().complaints());
    }
}
