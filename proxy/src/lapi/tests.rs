//! A gate, a ledger, a door to changes and both directions over them, for the tests of this room.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use checkgate_config::settings::{Bouncer, BouncerKey, LapiServer, Secret};
use checkgate_detectors::engine::Block;
use checkgate_detectors::facts::Time;
use checkgate_detectors::finding::{Action, DecisionId, FindingId, Kind, Mode, Record};
use checkgate_detectors::identity::Identity;
use ipnet::IpNet;

use super::board::Board;
use super::cursors::Cursors;
use super::holdings::Hands;
use super::keys::Keys;
use super::server::ServerState;
use crate::control::{Control, Hears, Modes, NotPromoted, Promotion, Rooms};
use crate::gate::brake::BrakeLimits;
use crate::gate::{Applied, Gate, GateSettings};
use crate::identity::written;
use crate::ledger::Ledger;
use crate::ledger::book::Bounds;
use crate::ledger::entry::{By, Decided, Status, What};
use crate::metrics::Metrics;
use crate::records::{self, tests::silent};
use crate::state::candidates::Summary;

pub const NOW: Time = Time(1_700_000_000_000_000);
pub const KEY: &str = "the key of the edge";
pub const HOUR: Duration = Duration::from_secs(3600);

thread_local! {
    static CLOCK: Cell<u64> = const { Cell::new(NOW.0) };
}

/// The time of this test's thread.
pub fn clock() -> Time {
    Time(CLOCK.get())
}

/// Lanes that nobody is behind.
struct Deaf;

impl Hears for Deaf {
    fn lift(&self, _: DecisionId) {}
    fn approve(&self, _: DecisionId, _: Time) {}
    fn reject(&self, _: DecisionId) {}
    fn promote(&self, _: &str) -> Result<Promotion, NotPromoted> {
        Err(NotPromoted::Nothing)
    }

    fn promote_candidate(&self, _: &str) -> Result<(Summary, bool), NotPromoted> {
        Err(NotPromoted::Nothing)
    }
}

pub struct House {
    pub gate: Arc<Gate>,
    pub ledger: Arc<Ledger>,
    pub hands: Hands,
    pub state: ServerState,
    pub metrics: Arc<Metrics>,
    _directory: tempfile::TempDir,
}

pub fn bouncer(name: &str, key: &str) -> Bouncer {
    Bouncer { name: name.into(), key: BouncerKey::Plain(Secret::new(key.into())), ranges: None }
}

pub fn server() -> LapiServer {
    LapiServer {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        bouncers: vec![bouncer("edge", KEY)],
        throttle_as: None,
        degrade_as: None,
        relay: false,
    }
}

/// A house in which everything is enforced but on 198.51.100.0/24.
pub fn house() -> House {
    CLOCK.set(NOW.0);
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(&[], &[]).unwrap();
    let spared: Vec<IpNet> = vec!["198.51.100.0/24".parse().unwrap()];
    let settings = GateSettings {
        blocks_max: 1000,
        proven_keys_max: 10,
        brake: BrakeLimits { blocks_per_minute: 100, share_of_clients: 1.0 },
        never_block: spared.clone(),
        at_most: Some(30 * 24 * HOUR),
        shared_addresses: vec!["203.0.113.0/24".parse().unwrap()],
        kill_switch: directory.path().join("kill-switch"),
    };
    let gate = Arc::new(Gate::new(settings, Arc::clone(&metrics)));
    let ledger = Arc::new(Ledger::in_memory(Bounds::default()));
    let control = Arc::new(Control::new(Rooms {
        gate: Arc::clone(&gate),
        ledger: Arc::clone(&ledger),
        outlet: Arc::new(silent(&metrics)),
        lanes: Arc::new(Deaf),
        modes: Box::new(|| Modes { named: vec![("prices".into(), Mode::Enforce)], others: None }),
        configured: Box::new(move || spared.clone()),
        widest: Box::new(|| checkgate_config::settings::WidestPrefix { ipv4: 28, ipv6: 60 }),
        instance_key: [7; 16],
    }));
    let hands =
        Hands { control, gate: Arc::clone(&gate), ledger: Arc::clone(&ledger), at_most: 30 * 24 * HOUR };
    let state = state(&gate, &ledger, &metrics);
    House { gate, ledger, hands, state, metrics, _directory: directory }
}

/// The listener as a process that has just started has it.
pub fn state(gate: &Arc<Gate>, ledger: &Arc<Ledger>, metrics: &Arc<Metrics>) -> ServerState {
    let board = Board::new(Arc::clone(gate), Arc::clone(ledger), Arc::clone(metrics), || true);
    board.adopt(Some(&server()));
    let keys = Keys::default();
    keys.adopt(&server().bouncers, metrics);
    ServerState {
        board: Arc::new(board),
        cursors: Arc::<Cursors>::default(),
        keys: Arc::new(keys),
        metrics: Arc::clone(metrics),
        clock,
    }
}

impl House {
    /// A decision of a lane, as it stands at the gate and in the ledger.
    pub fn decides(&self, id: u64, client: &str, action: Action) -> Applied {
        let (id, client) = (DecisionId(id), written(client).unwrap());
        let (time, until) = (clock(), clock().plus(HOUR));
        let block = Block {
            id,
            client,
            action,
            time,
            acts_from: time,
            until,
            lasts: HOUR,
            may_act: true,
            clients_active: 0,
        };
        let why = Record {
            id: FindingId(id.0),
            client,
            action,
            mode: Mode::Enforce,
            decision_id: Some(id),
            ..records::tests::record(Kind::Decision, id.0)
        };
        let applied = self.gate.impose(&block, &why, "lane", time);
        let decided = Decided {
            asked: None,
            id,
            client,
            model: Some("prices".into()),
            scope: checkgate_detectors::finding::Scope::Everywhere,
            detector: "one_field_sweep".into(),
            action,
            time,
            approves_itself: None,
            until,
            lasts: HOUR,
            status: if applied == Applied::Enforced { Status::InForce } else { Status::Observed },
            held_back: None,
            tenant: None,
            requests: 0,
            evidence: records::line(&why).into(),
        };
        drop(self.ledger.note(time, By::itself(), What::Decision(Box::new(decided))));
        applied
    }

    pub fn lifts(&self, id: u64) {
        let by = By { who: "ops".into(), ..By::default() };
        drop(self.hands.control.lift(DecisionId(id), by, clock()).unwrap());
    }

    pub fn passes(&self, span: Duration) {
        CLOCK.set(clock().plus(span).0);
        self.gate.tick(clock());
    }

    /// The decision that acts on a client.
    pub fn acting(&self, client: &str) -> Option<DecisionId> {
        let Some(Identity::Address(address)) = written(client) else { panic!("{client} is no address") };
        let on_addresses = self.gate.on_addresses(clock());
        on_addresses.iter().find(|(one, _)| *one == address).map(|(_, block)| block.id)
    }
}

#[test]
fn what_holds_at_one_model_is_told_to_no_bouncer_and_counted() {
    let house = house();
    let by = || By { who: "ops".into(), ..By::default() };
    let order = |client: &str, model: Option<&str>| crate::control::Order {
        client: written(client).unwrap(),
        action: Action::Block,
        lasts: HOUR,
        model: model.map(str::to_owned),
    };
    let decides =
        |order: &crate::control::Order| house.hands.control.decide(order, by(), clock()).unwrap().now.0.id;
    let at_one = decides(&order("192.0.2.7", Some("prices")));
    let told = || house.state.board.at(clock()).all().iter().map(|served| served.value()).collect::<Vec<_>>();
    assert_eq!((told(), house.metrics.crowdsec_kept_back.get()), (Vec::new(), 1));
    decides(&order("192.0.2.8", None));
    assert_eq!(told(), ["192.0.2.8"]);
    house.lifts(at_one.0);
    assert_eq!((told().len(), house.metrics.crowdsec_kept_back.get()), (1, 0));
    let current = house.state.board.at(clock());
    assert!(house.state.board.gone(&current, clock()).is_empty(), "of its end nobody is told either");
}
