//! What must hold, whatever happens: each a function and a sentence.

use checkgate_detectors::finding::{Action, DecisionId, Kind, Mode, Record, Tier};
use checkgate_detectors::identity::Identity;

use super::expected::Standing;
use super::plans;
use super::world::{Happening, Met, Stepped, World, decision};
use crate::ledger::entry::Status;

/// Whether an invariant holds, and if not, what was seen.
pub type Verdict = Result<(), String>;

/// One thing that must hold.
pub struct Invariant {
    /// The name of its function.
    pub name: &'static str,
    /// What it says.
    pub sentence: &'static str,
    /// Looks at what happened, in the world as it is afterwards.
    pub holds: fn(&World, &Happening) -> Verdict,
}

macro_rules! invariants {
    ($($(#[doc = $sentence:literal])+ fn $name:ident($world:ident, $happening:ident) $body:block)+) => {
        $($(#[doc = $sentence])+
        fn $name($world: &World, $happening: &Happening) -> Verdict $body)+

        /// All of them; those that are told first stand first.
        pub const INVARIANTS: &[Invariant] = &[$(Invariant {
            name: stringify!($name),
            sentence: concat!($($sentence),+),
            holds: $name,
        }),+];
    };
}

invariants! {
    /// Nobody on the never-block list is refused, or made to feel anything else.
    fn nobody_on_the_never_block_list_is_refused(world, happening) {
        let Some(met) = touched(happening) else { return Ok(()) };
        ensure(!world.expected.spares(&met.asker), || format!("{:?} is spared, {}", met.asker.address, told(met)))
    }

    /// With the kill switch on, and by a model that observes, nobody is refused.
    fn nobody_is_refused_where_nothing_is_enforced(world, happening) {
        let Some(met) = touched(happening) else { return Ok(()) };
        let off = world.expected.kill_switch;
        ensure(!off && met.acts, || format!("kill switch {off}, enforcing {}, {}", met.acts, told(met)))
    }

    /// What was lifted or rejected never acts again.
    fn what_was_lifted_or_rejected_never_acts_again(world, happening) {
        let Some((id, standing)) = acted(world, happening)? else { return Ok(()) };
        let over = matches!(standing.status, Status::Lifted | Status::Rejected);
        ensure(!over, || format!("{id} acts: {standing:?}"))
    }

    /// A proposal acts only once an operator approved it or its own time came.
    fn a_proposal_acts_only_once_it_is_approved(world, happening) {
        let Some((id, standing)) = acted(world, happening)? else { return Ok(()) };
        let due = standing.itself_at.is_some_and(|at| at <= world.passed());
        ensure(standing.status != Status::Proposed || due, || format!("{id} acts: {standing:?}"))
    }

    /// What was an observation when it was made never acts.
    fn an_observation_never_acts(world, happening) {
        let Some((id, standing)) = acted(world, happening)? else { return Ok(()) };
        ensure(standing.status != Status::Observed, || format!("{id} acts: {standing:?}"))
    }

    /// A decision acts from its time on and until its end, whatever somebody does to the wall clock.
    fn a_decision_acts_between_its_time_and_its_end(world, happening) {
        let Some((id, standing)) = acted(world, happening)? else { return Ok(()) };
        let now = world.passed();
        ensure(standing.from <= now && now < standing.until, || format!("{id} acts at {now}: {standing:?}"))
    }

    /// A decision meets its own client: a request of its key, or one from its address without a proven key.
    fn a_decision_meets_its_client_alone(world, happening) {
        let (Some(met), Some((id, standing))) = (met(happening), acted(world, happening)?) else { return Ok(()) };
        let meets = match standing.client {
            Identity::Key(key) => met.asker.key == Some(key),
            Identity::Address(address) => met.asker.address == address && !has_proven_key(world, met),
            Identity::Network(network) => network.contains(met.asker.address) && !has_proven_key(world, met),
        };
        ensure(meets, || format!("{id} on {} meets {:?}", standing.client, met.asker))
    }

    /// A decision that holds at one model acts on requests to that model and to no other.
    fn a_decision_acts_at_its_own_model_alone(world, happening) {
        let (Some(met), Some((id, standing))) = (met(happening), acted(world, happening)?) else { return Ok(()) };
        ensure(standing.reaches(&met.model), || format!("{id} acts at {}: {standing:?}", met.model))
    }

    /// No decision on a client of an enterprise tenant acts before somebody approved it.
    fn enterprise_tenants_are_asked_about_first(world, happening) {
        let Happening::Stepped(step) = happening else { return Ok(()) };
        let of_enterprise = |client: Identity| world.enterprise.contains(&client);
        let hasty = step.blocks.iter().find(|block| of_enterprise(block.client) && block.acts_from <= block.time);
        ensure(hasty.is_none(), || format!("{hasty:?}"))
    }

    /// A rule that counts findings leads to a decision only where so many were told of the client within its time.
    fn rules_count_within_their_window(world, happening) {
        let Happening::Stepped(step) = happening else { return Ok(()) };
        let by_count = |record: &&Record| {
            let rule = record.grounds.rule.as_deref();
            record.kind == Kind::Decision && rule.is_some_and(|rule| rule.ends_with(plans::COUNTED))
        };
        for decision in step.records.iter().filter(by_count) {
            let told = world.findings.iter().filter(|(client, model, time)| {
                let same = *client == decision.client && *model == decision.model;
                same && decision.time.since(*time) <= plans::COUNTED_WITHIN
            });
            let told = told.count();
            ensure(told >= plans::COUNTED_MIN as usize, || format!("{told} findings: {decision:?}"))?;
        }
        Ok(())
    }

    /// While a block is in force, its client is refused: from every address of its /64, whatever it says of itself.
    fn a_block_in_force_refuses_its_client(world, happening) {
        let Some(met) = met(happening).filter(|met| met.acts && met.refusal.is_none()) else { return Ok(()) };
        let passes = world.expected.kill_switch || world.expected.spares(&met.asker) || world.crowded;
        let mut on = world.expected.on((&met.asker, &met.model), has_proven_key(world, met), world.passed());
        let block = on.find(|(_, standing)| standing.action == Action::Block && !passes);
        ensure(block.is_none(), || format!("{:?} passes {block:?}", met.asker))
    }

    /// Every decision comes with the finding that it answers, of the same id; what rests on rows names three requests,
    /// or all where there are fewer.
    fn no_decision_without_evidence(_world, happening) {
        let Happening::Stepped(step) = happening else { return Ok(()) };
        for block in &step.blocks {
            let of = |kind| step.records.iter().find(move |it| it.kind == kind && it.decision_id == Some(block.id));
            let (Some(decision), Some(finding)) = (of(Kind::Decision), of(Kind::Finding)) else {
                return Err(format!("{} has no finding or no decision", block.id));
            };
            ensure(decision.id == finding.id, || format!("{} answers another finding", block.id))?;
            ensure(has_examples(finding), || format!("{finding:?} shows too little"))?;
        }
        Ok(())
    }

    /// A decision acts at once only where nothing holds it back: mode, kill switch, never-block list, doubt.
    fn what_is_held_back_does_not_act(world, happening) {
        let Happening::Stepped(step) = happening else { return Ok(()) };
        for block in step.blocks.iter().filter(|block| step.acting.contains(&block.id)) {
            let spared = match block.client {
                Identity::Address(address) => {
                    world.expected.never_block.iter().any(|network| network.contains(&address.ip()))
                }
                Identity::Key(_) | Identity::Network(_) => false,
            };
            let held_back = spared || world.expected.kill_switch || step.mode == Mode::Observe || !block.may_act;
            ensure(!held_back, || format!("{block:?} acts, in {:?}, spared {spared}", step.mode))?;
        }
        Ok(())
    }

    /// Traffic that names victims, or comes from beside them, leads to no decision on a victim.
    fn no_decision_is_about_a_victim(world, happening) {
        let Happening::Stepped(step) = happening else { return Ok(()) };
        let framed = step.blocks.iter().find(|block| world.victims.contains(&block.client));
        ensure(framed.is_none(), || format!("{framed:?}"))
    }

    /// No two decisions, and no two findings, have one id.
    fn ids_are_given_once(world, happening) {
        let Happening::Stepped(Stepped { records, blocks, .. }) = happening else { return Ok(()) };
        for block in blocks {
            ensure(world.told.0.get(&block.id) == Some(&1), || format!("{} was given before", block.id))?;
        }
        for record in records.iter().filter(|record| record.kind == Kind::Finding) {
            let given = world.told.1.get(&record.id).copied().unwrap_or(0);
            ensure(given <= 1, || format!("{} was given before", record.id))?;
        }
        Ok(())
    }

    /// Entries are numbered one by one, without a gap.
    fn entries_are_numbered_without_a_gap(world, happening) {
        let Happening::Noted(entry) = happening else { return Ok(()) };
        let expected = world.noted_before + 1;
        ensure(entry.number == expected, || format!("entry {} where {expected} is next", entry.number))
    }

    /// Listeners hear every entry once, in order, as it was noted.
    fn listeners_hear_every_entry_once(world, happening) {
        let Happening::Heard(entry) = happening else { return Ok(()) };
        let expected = world.heard_before + 1;
        ensure(entry.number == expected, || format!("entry {} is heard where {expected} is next", entry.number))?;
        let noted = world.entries.get(&entry.number).map(|(noted, _)| noted);
        ensure(noted == Some(entry), || format!("{entry:?} is heard for {noted:?}"))
    }

    /// What is told to be durable is among what the ledger says is on the disk.
    fn a_ticket_tells_what_is_on_the_disk(world, happening) {
        let Happening::Durable(number) = happening else { return Ok(()) };
        ensure(*number <= world.acknowledged, || format!("{number} is not on the disk"))
    }

    /// Nothing that was acknowledged as durable is lost, whenever a process is killed or the power is cut.
    fn nothing_acknowledged_is_lost(world, happening) {
        let Happening::Begun(_) = happening else { return Ok(()) };
        let last = world.left.last().map_or(0, |entry| entry.number);
        ensure(world.acknowledged <= last, || format!("up to {} was acknowledged, {last} is left", world.acknowledged))?;
        for (number, entry) in (1..).zip(&world.left) {
            let noted = world.entries.get(&entry.number).map(|(noted, _)| &**noted);
            ensure(entry.number == number, || format!("entry {number} is missing before {}", entry.number))?;
            ensure(noted == Some(entry), || format!("{noted:?} was noted, {entry:?} is left"))?;
        }
        Ok(())
    }

    /// After every restart the log verifies from its first line to its last.
    fn the_chain_verifies_after_every_restart(_world, happening) {
        let Happening::Begun(scan) = happening else { return Ok(()) };
        ensure(scan.is_whole(), || format!("{scan:?}"))
    }

    /// After every restart the book is what the entries that are left add up to.
    fn the_book_survives_as_the_sum_of_what_is_left(world, happening) {
        let Happening::Begun(_) = happening else { return Ok(()) };
        let book = world.process.ledger.book();
        for (number, decided) in book.decisions(None) {
            let Some(expected) = world.expected.decisions.get(&decided.id) else {
                return Err(format!("{decided:?} of entry {number} is in no line"));
            };
            let until = world.start().passed_at(decided.until);
            let same = (decided.status, decided.client, until) == (expected.status, expected.client, expected.until);
            ensure(same, || format!("{decided:?} until {until} is expected to be {expected:?}"))?;
        }
        let known = book.decisions(None).count();
        let enough = known == world.expected.decisions.len().min(world.setting.bounds.decisions_max);
        ensure(enough, || format!("{known} of {} decisions", world.expected.decisions.len()))
    }

    /// What the ledger's book says of a decision is what its entries add up to.
    fn the_book_is_the_sum_of_the_entries(world, happening) {
        let Happening::Noted(entry) = happening else { return Ok(()) };
        let book = world.process.ledger.book();
        ensure(*book.never_block() == world.expected.never_block, || "another never-block list".to_owned())?;
        ensure(book.kill_switch() == world.expected.kill_switch, || "another kill switch".to_owned())?;
        let Some(id) = decision(&entry.what) else { return Ok(()) };
        let Some(decided) = book.decision(id) else { return Ok(()) };
        let expected = &world.expected.decisions[&id];
        let until = world.start().passed_at(decided.until);
        let same = (decided.status, decided.client, until) == (expected.status, expected.client, expected.until);
        ensure(same, || format!("{decided:?} is expected to be {expected:?}"))
    }

    /// Tables, books and memories stay within their bounds.
    fn everything_stays_within_its_bounds(world, happening) {
        if matches!(happening, Happening::Met(_)) {
            return Ok(());
        }
        let (limits, bounds) = (&world.process.plan.limits, &world.setting.bounds);
        let book = world.process.ledger.book();
        let (decisions, findings) = (book.decisions(None).count(), book.findings(None).count());
        ensure(decisions <= bounds.decisions_max, || format!("{decisions} decisions in the book"))?;
        ensure(findings <= bounds.findings_max, || format!("{findings} findings in the book"))?;
        let listed = world.process.gate.list(world.now()).len();
        ensure(listed <= world.table_bound, || format!("{listed} decisions in the table"))?;
        for (_, name, engine) in world.process.desk.engines() {
            let gauges = engine.gauges();
            let within = gauges.clients <= limits.clients as u64
                && gauges.open_questions <= limits.open_questions as u64;
            ensure(within, || format!("{name}: {gauges:?}"))?;
        }
        Ok(())
    }

    /// What was told is a function of plan and journal: another desk makes the same of it.
    fn the_records_are_a_function_of_the_journal(world, happening) {
        let Happening::Ended = happening else { return Ok(()) };
        let (lived, replayed) = (&world.process.lines, world.process.replayed());
        let differs = lived.iter().zip(&replayed).position(|(lived, replayed)| lived != replayed);
        let same = differs.is_none() && lived.len() == replayed.len();
        ensure(same, || format!("{} records, {} in replay, from {differs:?} on", lived.len(), replayed.len()))
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn met(happening: &Happening) -> Option<&Met> {
    match happening {
        Happening::Met(met) => Some(met),
        _ => None,
    }
}

/// A request to which something was done.
fn touched(happening: &Happening) -> Option<&Met> {
    met(happening).filter(|met| met.refusal.is_some() || met.degraded || met.tagged.is_some())
}

/// The decisions that were named, with where they should stand.
fn acted<'a>(world: &'a World, happening: &Happening) -> Result<Option<(DecisionId, &'a Standing)>, String> {
    let Some(met) = met(happening) else { return Ok(None) };
    let Some(id) = met.refusal.map(|refusal| refusal.decision).or(met.tagged) else { return Ok(None) };
    let standing = world.expected.decisions.get(&id);
    standing.map(|standing| Some((id, standing))).ok_or_else(|| format!("{id} acts and stands in no ledger"))
}

fn told(met: &Met) -> String {
    format!("{:?}, degraded {}, tagged {:?}", met.refusal, met.degraded, met.tagged)
}

fn has_proven_key(world: &World, met: &Met) -> bool {
    met.asker.key.is_some_and(|key| world.process.proven.contains(&key))
}

/// What broke a contract rests on answers, everything else of the first tier on rows.
fn has_examples(finding: &Record) -> bool {
    let enough = finding.requests.len() as u64 >= finding.window.requests.min(3);
    finding.tier != Tier::One || (finding.window.rows >= 3 && enough)
}
