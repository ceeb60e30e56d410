//! From what is asked for to a change, within what the endpoint may do.

use std::sync::Arc;

use checkgate_config::settings::InboundAction;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId};
use checkgate_detectors::identity::Identity;
use http::StatusCode;

use super::ask::{Ask, Fault, Wish};
use super::{Endpoint, Outcome};
use crate::control::{Changed, Control, Order, Refused, kept_back};
use crate::gate::Gate;
use crate::gate::table::ActiveBlock;
use crate::ledger::entry::{Asked, By, Decided};
use crate::ledger::{Ledger, Ticket};
use crate::metrics::labels::InboundOutcome;

/// What changes are made by, and read from.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The door to changes.
    pub control: &'a Control,
    /// What is in force.
    pub gate: &'a Gate,
    /// What was decided.
    pub ledger: &'a Ledger,
}

/// What was done.
pub(super) struct Done {
    pub outcome: Outcome,
    pub counted: InboundOutcome,
    pub tickets: Vec<Ticket>,
}

/// A decision as far as an endpoint's powers depend on it.
struct Known {
    id: DecisionId,
    client: Identity,
    model: Option<Arc<str>>,
    asked: Option<Asked>,
    waits: bool,
}

impl Desk<'_> {
    /// Everything that stands on a client at the gate.
    fn standing_on(&self, client: &Identity, now: Time) -> Vec<Known> {
        self.gate.standing_on(client, now).iter().map(|block| self.known(block, now)).collect()
    }

    fn known(&self, block: &ActiveBlock, now: Time) -> Known {
        let book = self.ledger.book();
        let decided = book.decision(block.id);
        Known {
            id: block.id,
            client: block.client,
            model: decided.and_then(|decided| decided.model.clone()),
            asked: decided.and_then(|decided| decided.asked.clone()),
            waits: block.is_proposed(now),
        }
    }

    /// One decision by its id.
    fn find(&self, id: DecisionId, now: Time) -> Option<Known> {
        if let Some(block) = self.gate.standing(id) {
            return Some(self.known(&block, now));
        }
        let of = |decided: &Decided| Known {
            id,
            client: decided.client,
            model: decided.model.clone(),
            asked: decided.asked.clone(),
            waits: false,
        };
        self.ledger.book().decision(id).map(of)
    }

    /// What keeps a decision from acting that was approved.
    fn keeps_back(&self, block: &ActiveBlock) -> Option<&'static str> {
        if block.acts {
            return None;
        }
        Some(if self.gate.spares(&block.client) {
            "the client is on the never-block list"
        } else if self.gate.kill_switch_is_on() {
            "the kill switch is on"
        } else {
            "the model is in observe, or the brake is on"
        })
    }
}

impl Endpoint {
    /// Does what is asked for.
    ///
    /// # Errors
    /// The endpoint may not, or it cannot be done.
    pub(super) fn act(
        &self,
        ask: &Ask,
        from: Option<&Arc<str>>,
        desk: &Desk<'_>,
        now: Time,
    ) -> Result<Done, Fault> {
        let by = By { who: Arc::clone(&self.who), from: from.cloned(), why: ask.why.as_str().into() };
        match ask.wish {
            Wish::Resolved => self.resolve(ask, &by, desk, now),
            Wish::Act(InboundAction::Lift) => self.lift(ask, &by, desk, now),
            Wish::Act(action) => {
                self.may(action, ask)?;
                match action {
                    InboundAction::Ban => self.ban(ask, by, desk, now),
                    _ => self.answer(action, ask, &by, desk, now),
                }
            }
        }
    }

    fn may(&self, action: InboundAction, ask: &Ask) -> Result<(), Fault> {
        if self.settings.actions.contains(&action) {
            return Ok(());
        }
        let allowed: Vec<_> = self.settings.actions.iter().map(|action| action.as_str()).collect();
        let detail = format!("this endpoint may not {}, only {}", action.as_str(), allowed.join(", "));
        let mend = format!("ask for what it may, or add {} to its `actions`", action.as_str());
        Err(Fault::at(&ask.at, StatusCode::FORBIDDEN, detail, mend))
    }

    fn ban(&self, ask: &Ask, by: By, desk: &Desk<'_>, now: Time) -> Result<Done, Fault> {
        let of_decision = || ask.decision.and_then(|id| desk.find(id, now)).map(|known| known.client);
        let client = ask.client.or_else(of_decision).ok_or_else(|| unknown_decision(ask))?;
        let asked = Asked { by: Arc::clone(&self.who), id: Arc::clone(&ask.id) };
        // A process that was started since remembers no ids, but the ledger knows what stands.
        let before =
            desk.standing_on(&client, now).into_iter().find(|known| known.asked.as_ref() == Some(&asked));
        if let Some(before) = before {
            return Ok(done(ask, "done", &[before.id], InboundOutcome::Repeated));
        }
        let wanted = ask.lasts.unwrap_or(self.settings.lasts);
        let lasts = desk.gate.rung(wanted.min(self.settings.at_most));
        let order = Order { client, action: Action::Block, lasts, model: self.model(ask)? };
        let changed =
            desk.control.decide_for(&order, Some(asked), by, now).map_err(|refused| cannot(ask, refused))?;
        let ((block, applied), ticket) = changed.parted();
        let held = kept_back(applied);
        let counted = if held.is_some() { InboundOutcome::KeptBack } else { InboundOutcome::Done };
        let mut done = done(ask, if held.is_some() { "kept_back" } else { "done" }, &[block.id], counted);
        done.outcome.until = Some(block.until.seconds());
        done.outcome.kept_back = held;
        done.outcome.shortened = lasts < wanted;
        done.tickets.push(ticket);
        Ok(done)
    }

    /// The model that a ban names. An endpoint of one model need not name it.
    fn model(&self, ask: &Ask) -> Result<Option<String>, Fault> {
        let allowed = &self.settings.models;
        match (&ask.model, allowed.as_slice()) {
            (Some(model), []) => Ok(Some(model.clone())),
            (None, []) => Ok(None),
            (Some(model), allowed) if allowed.contains(model) => Ok(Some(model.clone())),
            (None, [one]) => Ok(Some(one.clone())),
            (Some(_), _) => Err(self.beyond_its_models(ask)),
            (None, _) => {
                let place = self.settings.fields.model.first().map_or("", String::as_str);
                let detail = "no model is named, and this endpoint may not decide for all";
                let mend = format!("name one of {}", allowed.join(", "));
                Err(Fault::at(&format!("{}{place}", ask.at), StatusCode::UNPROCESSABLE_ENTITY, detail, mend))
            }
        }
    }

    fn beyond_its_models(&self, ask: &Ask) -> Fault {
        let detail = format!("this endpoint may decide on {} only", self.settings.models.join(", "));
        let mend = "ask about these models, or add the model to its `models`";
        Fault::at(&ask.at, StatusCode::FORBIDDEN, detail, mend)
    }

    /// Approves or rejects what waits.
    fn answer(
        &self,
        action: InboundAction,
        ask: &Ask,
        by: &By,
        desk: &Desk<'_>,
        now: Time,
    ) -> Result<Done, Fault> {
        // A decision that does not wait any more is refused by the door, which knows where it stands.
        let found = self.targets(ask, desk, now, |known| known.waits)?;
        let mut done = done(ask, "done", &found, InboundOutcome::Done);
        for id in found {
            if action == InboundAction::Approve {
                let changed =
                    desk.control.approve(id, by.clone(), now).map_err(|refused| cannot(ask, refused))?;
                let block = done.take(changed);
                done.outcome.until = Some(block.until.seconds());
                if let Some(why) = desk.keeps_back(&block) {
                    (done.outcome.outcome, done.counted) = ("kept_back", InboundOutcome::KeptBack);
                    done.outcome.kept_back = Some(why);
                }
            } else {
                let changed =
                    desk.control.reject(id, by.clone(), now).map_err(|refused| cannot(ask, refused))?;
                done.take(changed);
            }
        }
        Ok(done)
    }

    /// Ends decisions: any, where that is allowed, or what this endpoint decided itself.
    fn lift(&self, ask: &Ask, by: &By, desk: &Desk<'_>, now: Time) -> Result<Done, Fault> {
        let may_any = self.may(InboundAction::Lift, ask);
        if may_any.is_err() && !self.settings.actions.contains(&InboundAction::Ban) {
            return Err(may_any.err().unwrap_or_else(|| unknown_decision(ask)));
        }
        let found =
            self.targets(ask, desk, now, |known| !known.waits && (may_any.is_ok() || self.is_own(known)))?;
        let mut done = done(ask, "done", &found, InboundOutcome::Done);
        for id in found {
            let changed = desk.control.lift(id, by.clone(), now).map_err(|refused| cannot(ask, refused))?;
            done.take(changed);
        }
        Ok(done)
    }

    /// Ends what was decided under the same id, and nothing else.
    fn resolve(&self, ask: &Ask, by: &By, desk: &Desk<'_>, now: Time) -> Result<Done, Fault> {
        let asked = Asked { by: Arc::clone(&self.who), id: Arc::clone(&ask.id) };
        let of_decision = || ask.decision.and_then(|id| desk.find(id, now)).map(|known| known.client);
        let standing = ask.client.or_else(of_decision).map(|client| desk.standing_on(&client, now));
        let own = standing.into_iter().flatten().filter(|known| known.asked.as_ref() == Some(&asked));
        let found: Vec<DecisionId> = own.map(|known| known.id).collect();
        if found.is_empty() {
            return Ok(done(ask, "nothing", &[], InboundOutcome::Nothing));
        }
        let mut done = done(ask, "done", &found, InboundOutcome::Done);
        for id in found {
            let changed = desk.control.lift(id, by.clone(), now).map_err(|refused| cannot(ask, refused))?;
            done.take(changed);
        }
        Ok(done)
    }

    fn is_own(&self, known: &Known) -> bool {
        known.asked.as_ref().is_some_and(|asked| asked.by == self.who)
    }

    fn reaches(&self, known: &Known) -> bool {
        let models = &self.settings.models;
        let named = known.model.as_deref().is_some_and(|model| models.iter().any(|one| one == model));
        models.is_empty() || named || self.is_own(known)
    }

    /// The decisions that are meant: the one that is named, or those on the client that `fit`.
    fn targets(
        &self,
        ask: &Ask,
        desk: &Desk<'_>,
        now: Time,
        fit: impl Fn(&Known) -> bool,
    ) -> Result<Vec<DecisionId>, Fault> {
        if let Some(id) = ask.decision {
            let known = desk.find(id, now).ok_or_else(|| unknown_decision(ask))?;
            if ask.client.is_some_and(|client| client != known.client) {
                let detail = format!("{id} is about another client than the one that is named");
                return Err(Fault::at(&ask.at, StatusCode::CONFLICT, detail, "name the decision alone"));
            }
            if !self.reaches(&known) {
                return Err(self.beyond_its_models(ask));
            }
            let foreign = ask.wish == Wish::Act(InboundAction::Lift) && !known.waits && !fit(&known);
            return if foreign { Err(not_its_own(ask)) } else { Ok(vec![id]) };
        }
        let standing = ask.client.map(|client| desk.standing_on(&client, now)).unwrap_or_default();
        let found: Vec<_> = standing.iter().filter(|known| fit(known) && self.reaches(known)).collect();
        if found.is_empty() {
            let detail =
                format!("there is nothing on this client that this endpoint may {}", ask.wish.as_str());
            let mend = "GET /v1/decisions?client=CLIENT lists what was decided on it";
            return Err(Fault::at(&ask.at, StatusCode::NOT_FOUND, detail, mend));
        }
        Ok(found.into_iter().map(|known| known.id).collect())
    }
}

impl Done {
    fn take<T>(&mut self, changed: Changed<T>) -> T {
        let (now, ticket) = changed.parted();
        self.tickets.push(ticket);
        now
    }
}

fn done(ask: &Ask, outcome: &'static str, decisions: &[DecisionId], counted: InboundOutcome) -> Done {
    let outcome = Outcome {
        id: Arc::clone(&ask.id),
        asked: ask.wish.as_str(),
        outcome,
        decisions: decisions.iter().map(ToString::to_string).collect(),
        until: None,
        shortened: false,
        kept_back: None,
    };
    Done { outcome, counted, tickets: Vec::new() }
}

fn unknown_decision(ask: &Ask) -> Fault {
    let mend = "GET /v1/decisions lists those that are remembered";
    Fault::at(&ask.at, StatusCode::NOT_FOUND, "no decision goes by this id", mend)
}

fn not_its_own(ask: &Ask) -> Fault {
    let detail = "this endpoint may lift what it banned itself, and this is not";
    Fault::at(&ask.at, StatusCode::FORBIDDEN, detail, "add lift to its `actions`")
}

/// What the door refuses.
fn cannot(ask: &Ask, refused: Refused) -> Fault {
    let (status, mend) = crate::admin::mend(&refused);
    Fault::at(&ask.at, status, refused.to_string(), mend)
}
