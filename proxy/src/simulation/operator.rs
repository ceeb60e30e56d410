//! What operators do, at any moment and in any order, sensible or not.

use std::sync::Arc;
use std::time::Duration;

use checkgate_detectors::engine::Block;
use checkgate_detectors::finding::Grounds;
use checkgate_detectors::finding::{
    ATLAS_VERSION, Action, DecisionId, FindingId, Kind, Mode, Record, Scope, Tier, Window,
};
use checkgate_detectors::identity::{Identity, Network};
use checkgate_detectors::networks::Networks;
use ipnet::IpNet;

use super::mutants::Mutant;
use super::plans;
use super::world::World;
use crate::capture::{Entry, Lift, Promoted, Replanned, Settled};
use crate::gate::table::ActiveBlock;
use crate::gate::{Applied, Rules};
use crate::ledger::entry::{By, Decided, Status, What};
use crate::plan::Plan;
use crate::records;

/// The longest that a decision may last in some worlds.
const AT_MOST: Duration = Duration::from_secs(1800);

#[derive(Clone, Copy)]
enum Word {
    Lift,
    Approve,
    Reject,
    Extend,
    Impose,
    NeverBlock,
    KillSwitch,
    Reload,
}

impl World {
    /// An operator says a word.
    pub fn operate(&mut self) {
        self.counts.operated += 1;
        let words = [
            (4, Word::Lift),
            (5, Word::Approve),
            (3, Word::Reject),
            (3, Word::Extend),
            (2, Word::Impose),
            (4, Word::NeverBlock),
            (2, Word::KillSwitch),
            (3, Word::Reload),
        ];
        match self.dice.weighted(&words) {
            Word::Lift => self.lift(),
            Word::Approve => self.approve(),
            Word::Reject => self.reject(),
            Word::Extend => self.extend(),
            Word::Impose => self.impose(),
            Word::NeverBlock => self.edit_never_block(),
            Word::KillSwitch => self.turn_kill_switch(),
            Word::Reload => {
                let plan = plans::another(&self.process.plan, &mut self.dice);
                self.reload(plan);
                self.promote();
                // Windows that are over end as well where nobody asks the model.
                let time = self.now();
                self.take(Entry::Settle(Settled { time }));
            }
        }
    }

    /// Trusts what the models learned, where they learned something. No dice: it happens beside another word.
    fn promote(&mut self) {
        let models: Vec<String> = self.process.desk.engines().map(|(_, name, _)| name.to_owned()).collect();
        for model in models {
            self.say(|| format!("an operator promotes what {model} learned"));
            let time = self.now();
            self.take(Entry::Promote(Promoted { time, model }));
        }
        // Later plans, and a process that takes over, rest on it as well.
        self.process.plan = Arc::new(self.process.desk.plan().clone());
    }

    /// Some decision, open or long over, and often the latest.
    fn some_decision(&mut self) -> Option<DecisionId> {
        if self.dice.chance(0.5) {
            return self.latest;
        }
        let place = self.dice.below(self.expected.decisions.len());
        self.expected.decisions.keys().nth(place).copied()
    }

    fn lift(&mut self) {
        let Some(id) = self.some_decision() else { return };
        let known = if self.is(Mutant::ForgetsToLift) {
            self.process.gate.list(self.now()).into_iter().find(|block| block.id == id)
        } else {
            self.process.gate.lift(id)
        };
        if known.is_some() {
            self.say(|| format!("an operator lifts {id}"));
            self.note(operator(), What::Lifted { id }, None);
            self.tell_lane(id);
        }
    }

    fn tell_lane(&mut self, decision: DecisionId) {
        let time = self.now();
        self.process.queue(usize::MAX, Entry::Lift(Lift { time, decision }), usize::MAX);
    }

    fn approve(&mut self) {
        let (Some(id), now) = (self.some_decision(), self.now()) else { return };
        let Some(approved) = self.process.gate.approve(id, now) else { return };
        self.say(|| format!("an operator approves {id}, which acts: {}", approved.acts));
        if approved.acts {
            self.note(operator(), What::Approved { id, until: approved.until }, None);
        } else {
            self.enter_as(&approved, Status::Observed);
        }
    }

    fn reject(&mut self) {
        let (Some(id), now) = (self.some_decision(), self.now()) else { return };
        let rejected = if self.is(Mutant::ForgetsToReject) {
            self.process.gate.list(now).into_iter().find(|block| block.id == id && block.is_proposed(now))
        } else {
            self.process.gate.reject(id, now)
        };
        if rejected.is_some() {
            self.say(|| format!("an operator rejects {id}"));
            self.note(operator(), What::Rejected { id }, None);
            self.tell_lane(id);
        }
    }

    /// Has a decision that acts end at another time.
    fn extend(&mut self) {
        let (Some(id), now) = (self.some_decision(), self.now()) else { return };
        let standing = self.process.gate.list(now).into_iter().find(|block| block.id == id && block.acts);
        let Some(block) = standing.filter(|block| !block.is_proposed(now)) else { return };
        let until = now.plus(self.dice.span(Duration::from_secs(3600)) + Duration::from_millis(1));
        self.say(|| format!("an operator has {id} end at another time"));
        self.put(id, (block.client, block.only), block.action, until.since(now));
    }

    /// Decides on somebody, with or without a reason.
    fn impose(&mut self) {
        let number = self.dice.below(self.clients.len());
        let client = if self.dice.chance(0.2) {
            let length = if self.clients[number].ip.is_ipv4() { 24 } else { 48 };
            Identity::Network(Network::around(self.clients[number].ip, length).unwrap())
        } else {
            self.dice.pick(&self.clients[number].identities())
        };
        let id = DecisionId(self.dice.below(1 << 50) as u64);
        let action = self.dice.pick(&[Action::Block, Action::Block, Action::Throttle, Action::Tag]);
        let lasts = self.dice.span(Duration::from_secs(3600)) + Duration::from_secs(1);
        let only: Option<Arc<str>> = self.dice.chance(0.5).then(|| "model-0".into());
        self.say(|| format!("an operator decides {id} on {client}, at {only:?}"));
        self.put(id, (client, only), action, lasts);
    }

    fn put(
        &mut self,
        id: DecisionId,
        (client, only): (Identity, Option<Arc<str>>),
        action: Action,
        lasts: Duration,
    ) {
        let now = self.now();
        let until = now.plus(lasts);
        let block = Block {
            id,
            client,
            action,
            time: now,
            acts_from: now,
            until,
            lasts,
            may_act: true,
            clients_active: 0,
        };
        let mut why = record(&block);
        if let Some(model) = &only {
            (why.model, why.grounds.scope) = (Arc::clone(model), Some(Scope::Model));
        }
        let acts = self.process.gate.impose(&block, &why, "operator", now) == Applied::Enforced;
        let evidence = records::line(&why).into();
        let mut entered = ActiveBlock::new(&block, acts, evidence);
        entered.only = only;
        self.enter_as(&entered, if acts { Status::InForce } else { Status::Observed });
    }

    fn enter_as(&mut self, block: &ActiveBlock, status: Status) {
        let decided = Decided {
            id: block.id,
            client: block.client,
            model: block.only.clone(),
            scope: if block.only.is_some() { Scope::Model } else { Scope::Everywhere },
            detector: "operator".into(),
            action: block.action,
            time: self.now(),
            until: block.until,
            lasts: block.lasts,
            status,
            held_back: None,
            approves_itself: None,
            tenant: None,
            requests: 0,
            asked: None,
            evidence: Arc::clone(&block.evidence),
        };
        self.note(operator(), What::Decision(Box::new(decided)), None);
    }

    fn edit_never_block(&mut self) {
        let listed: Vec<IpNet> = self.expected.never_block.iter().copied().collect();
        let (added, removed) = if listed.is_empty() || self.dice.chance(0.6) {
            (vec![self.some_network()], Vec::new())
        } else {
            (Vec::new(), vec![self.dice.pick(&listed)])
        };
        self.say(|| format!("an operator spares {added:?} and no longer {removed:?}"));
        self.note(operator(), What::NeverBlock { added, removed }, None);
        let plan = Plan::clone(&self.process.plan);
        self.reload(plan);
    }

    /// Where one of the clients is, alone or with its neighbours.
    fn some_network(&mut self) -> IpNet {
        let number = self.dice.below(self.clients.len());
        let ip = self.clients[number].ip;
        let length = if ip.is_ipv4() { self.dice.pick(&[32, 32, 24]) } else { self.dice.pick(&[64, 48]) };
        IpNet::new(ip, length).unwrap().trunc()
    }

    fn turn_kill_switch(&mut self) {
        let on = !self.expected.kill_switch;
        self.say(|| format!("the kill switch is turned, on: {on}"));
        if !self.is(Mutant::IgnoresTheKillSwitch) {
            // The switch of this gate has no file, so it holds in memory alone.
            self.process.gate.set_kill_switch(on).ok();
        }
        self.kill_switch_file = on;
        self.note(operator(), What::KillSwitch { on }, None);
    }

    /// Puts a plan into force, with the never-block list as operators left it.
    pub fn reload(&mut self, mut plan: Plan) {
        if !self.is(Mutant::ForgetsTheNeverBlockList) {
            plan.never_block = plans::as_prefixes(&self.expected.never_block);
        }
        let plan = plans::as_understood(plan, self.mutant);
        self.crowded |= plan.limits.blocks < 1000;
        let plan = Arc::new(plan);
        self.say(|| "another plan comes into force".to_owned());
        let time = self.now();
        self.take(Entry::Plan(Replanned { time, plan: Arc::clone(&plan) }));
        self.process.plan = plan;
        self.adopt_rules();
    }

    /// Has the gate go by the plan.
    pub fn adopt_rules(&mut self) {
        let networks: Vec<IpNet> = self.expected.never_block.iter().copied().collect();
        let mut rules = Rules { at_most: Some(AT_MOST), ..Rules::of(&self.process.plan) };
        if !self.is(Mutant::ForgetsTheNeverBlockList) {
            rules.spared = Networks::new(plans::as_prefixes(&networks));
        }
        let blocks_max = self.process.plan.limits.blocks;
        // A table that is over another bound shrinks with its next decision.
        self.table_bound = blocks_max.max(self.process.gate.list(self.now()).len());
        self.process.gate.adopt(rules, blocks_max);
    }
}

fn operator() -> By {
    By { who: "operator".into(), from: None, why: "a draw".into() }
}

fn record(block: &Block) -> Record {
    Record {
        id: FindingId(block.id.0),
        time: block.time,
        kind: Kind::Decision,
        client: block.client,
        model: "".into(),
        detector: "operator",
        tier: Tier::One,
        atlas: "",
        atlas_version: ATLAS_VERSION,
        owasp: None,
        statistic: 0.0,
        limit: 0.0,
        window: Window::default(),
        action: block.action,
        mode: Mode::Enforce,
        decision_id: Some(block.id),
        until: Some(block.until),
        fields: Vec::new(),
        campaign: None,
        requests: Vec::new(),
        grounds: Grounds::default(),
        explanation: "An operator said so.".to_owned(),
    }
}
