//! The door of a lane: where request threads leave captures, at the price of a push.
//!
//! Nothing here waits. What does not fit is shed, and the client with the most waiting sheds first: its parts lose
//! their bodies as soon as it fills its own share, long before anybody else is touched.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;

use checkgate_detectors::finding::DecisionId;
use crossbeam_queue::SegQueue;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::capture::Entry;

/// Parts that may wait in front of one lane, bodies or not.
const PARTS_MAX: usize = 32_768;
/// Share of [`PARTS_MAX`] that one client may fill.
const PARTS_MAX_PER_CLIENT: usize = PARTS_MAX / 8;
/// Clients are counted in this many fixed slots. Two clients that share one share its allowance as well: with a
/// thousand busy clients that happens to one in four, and costs it nothing unless the other floods.
const SLOTS: usize = 4_096;
/// Heads still find room when bodies no longer do: an eighth of the bytes on top.
const HEADS_DIVISOR: usize = 8;
/// What a part costs besides its body: its own memory and the work of looking at it.
const PART_COST: usize = 512;

/// Tells whoever holds a question the lane's verdict on what it holds: the decision that refuses it, if one does.
/// Whether its client is refused is for the gate to say.
pub type Bell = oneshot::Sender<Option<DecisionId>>;

/// One capture on its way, with whoever waits for its verdict.
pub struct Parcel {
    /// The capture.
    pub entry: Entry,
    /// Which client's allowance it uses.
    pub client: u64,
    /// Rung when the verdict on a held question stands.
    pub bell: Option<Bell>,
}

impl Parcel {
    /// Memory and work that the parcel stands for, in bytes.
    pub fn cost(&self) -> usize {
        PART_COST
            + match &self.entry {
                Entry::Asked(asked) => asked.body.held(),
                Entry::Answered(answered) => answered.body.held(),
                Entry::Lift(_)
                | Entry::Plan(_)
                | Entry::Approve(_)
                | Entry::Reject(_)
                | Entry::Promote(_)
                | Entry::Remember(_)
                | Entry::Settle(_)
                | Entry::Install(_) => 0,
            }
    }
}

/// What became of a capture at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits, whole.
    Whole,
    /// It waits without its body.
    Shed,
    /// Not even its head found room.
    Lost,
}

/// The door.
pub struct Queue {
    /// Grows with what waits: a ring with room for all of it would be touched from end to end, at rest and under load.
    parcels: SegQueue<Parcel>,
    bytes_max: usize,
    client_bytes_max: usize,
    waiting_bytes: AtomicUsize,
    client_bytes: Vec<AtomicUsize>,
    client_parts: Vec<AtomicUsize>,
    /// The lane sleeps without a time limit; whoever pushes wakes it.
    parked: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Queue {
    /// A door behind which at most `bytes_max` wait, `share_per_client` of it for one client.
    pub fn new(bytes_max: usize, share_per_client: f64) -> Self {
        let slots = || (0..SLOTS).map(|_| AtomicUsize::new(0)).collect();
        Self {
            parcels: SegQueue::new(),
            bytes_max,
            client_bytes_max: (bytes_max as f64 * share_per_client) as usize,
            waiting_bytes: AtomicUsize::new(0),
            client_bytes: slots(),
            client_parts: slots(),
            parked: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// Leaves a parcel, without its body or not at all where there is no room. Never waits.
    pub fn offer(&self, mut parcel: Parcel) -> Offered {
        let slot = slot(parcel.client);
        // Threads that offer at the same moment may go over the bound by one part each.
        let is_full = self.parcels.len() >= PARTS_MAX;
        if is_full || count(&self.client_parts, slot).load(Ordering::Relaxed) >= PARTS_MAX_PER_CLIENT {
            return Offered::Lost;
        }
        let mut offered = Offered::Whole;
        if !self.has_room(slot, parcel.cost()) {
            shed(&mut parcel.entry);
            offered = Offered::Shed;
        }
        let (cost, rings) = (parcel.cost(), parcel.bell.is_some());
        if self.waiting_bytes() + cost > self.bytes_max + self.bytes_max / HEADS_DIVISOR {
            return Offered::Lost;
        }
        self.add(slot, cost);
        self.parcels.push(parcel);
        self.wake(rings);
        offered
    }

    /// Takes the next parcel in order of arrival. Its bytes count as waiting until [`Queue::done`].
    pub fn take(&self) -> Option<Parcel> {
        self.parcels.pop()
    }

    /// Whether nothing waits at the door.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// A parcel of this client and cost was dealt with.
    pub fn done(&self, client: u64, cost: usize) {
        self.remove(slot(client), cost);
    }

    /// Bytes that wait, bodies and overhead.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Parts that wait at the door, not yet in fair order.
    pub fn waiting_parts(&self) -> usize {
        self.parcels.len()
    }

    /// Tells the door which thread to wake.
    pub fn serve_from(&self, thread: Thread) {
        *self.thread.lock() = Some(thread);
    }

    /// Announces that the lane is about to sleep; it must look once more before it does.
    pub fn set_parked(&self, parked: bool) {
        self.parked.store(parked, Ordering::SeqCst);
    }

    /// Wakes the lane if it sleeps, or in any case where somebody waits for a verdict.
    pub fn wake(&self, rings: bool) {
        // The push before this load and the lane's store before its last look are both sequentially consistent
        // with it: one of the two sides always sees the other.
        std::sync::atomic::fence(Ordering::SeqCst);
        if (rings || self.parked.load(Ordering::SeqCst))
            && let Some(thread) = self.thread.lock().as_ref()
        {
            thread.unpark();
        }
    }

    fn has_room(&self, slot: usize, cost: usize) -> bool {
        let own = count(&self.client_bytes, slot).load(Ordering::Relaxed);
        let all = self.waiting_bytes();
        // A client with nothing waiting is never turned away for its own sake, whatever the size of one body.
        (own == 0 || own + cost <= self.client_bytes_max) && all + cost <= self.bytes_max
    }

    fn add(&self, slot: usize, cost: usize) {
        self.waiting_bytes.fetch_add(cost, Ordering::Relaxed);
        count(&self.client_bytes, slot).fetch_add(cost, Ordering::Relaxed);
        count(&self.client_parts, slot).fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, slot: usize, cost: usize) {
        self.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
        count(&self.client_bytes, slot).fetch_sub(cost, Ordering::Relaxed);
        count(&self.client_parts, slot).fetch_sub(1, Ordering::Relaxed);
    }
}

fn slot(client: u64) -> usize {
    (client % SLOTS as u64) as usize
}

/// Slots are taken modulo their number, so the index is always there.
fn count(counts: &[AtomicUsize], slot: usize) -> &AtomicUsize {
    &counts[slot]
}

fn shed(entry: &mut Entry) {
    match entry {
        Entry::Asked(asked) => asked.body.shed(),
        Entry::Answered(answered) => answered.body.shed(),
        Entry::Lift(_)
        | Entry::Plan(_)
        | Entry::Approve(_)
        | Entry::Reject(_)
        | Entry::Promote(_)
        | Entry::Remember(_)
        | Entry::Settle(_)
        | Entry::Install(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use checkgate_detectors::facts::{NotInspected, Time};
    use checkgate_detectors::identity::{Address, Asker, Standing};

    use super::*;
    use crate::capture::{Admission, Asked, Body};

    fn parcel(client: u64, bytes: usize) -> Parcel {
        let address = Address::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let asker = Asker { address, standing: Standing::Assumed, key: None, keys_verified: false };
        let entry = Entry::Asked(Asked {
            id: 0,
            time: Time(0),
            asker,
            model: None,
            protocol: None,
            name: String::new(),
            path: String::new(),
            headers: Default::default(),
            length: bytes as u64,
            hash: 0,
            body: Body::Whole(vec![0; bytes].into()),
            admission: Admission::Admitted,
        });
        Parcel { entry, client, bell: None }
    }

    fn body_of(parcel: &Parcel) -> &Body {
        match &parcel.entry {
            Entry::Asked(asked) => &asked.body,
            _ => unreachable!("only questions are offered here"),
        }
    }

    #[test]
    fn a_flood_sheds_its_own_bodies_and_leaves_room_for_the_rest() {
        let queue = Queue::new(1_000_000, 0.25);
        let flood: Vec<_> = (0..10).map(|_| queue.offer(parcel(1, 100_000))).collect();
        assert_eq!(flood.iter().filter(|offered| **offered == Offered::Whole).count(), 2);
        assert!(flood[2..].iter().all(|offered| *offered == Offered::Shed), "{flood:?}");
        assert_eq!(queue.offer(parcel(2, 100_000)), Offered::Whole, "another client pays for the flood");
        let shed = std::iter::from_fn(|| queue.take()).nth(5).unwrap();
        assert_eq!(*body_of(&shed), Body::Not(NotInspected::Shed), "the head stays and says why");
    }

    #[test]
    fn one_body_larger_than_the_share_still_gets_in() {
        let queue = Queue::new(1_000_000, 0.1);
        assert_eq!(queue.offer(parcel(1, 500_000)), Offered::Whole);
        assert_eq!(queue.offer(parcel(1, 1)), Offered::Shed);
    }

    #[test]
    fn what_is_done_no_longer_counts() {
        let queue = Queue::new(1_000_000, 0.25);
        for _ in 0..100 {
            assert_eq!(queue.offer(parcel(1, 200_000)), Offered::Whole);
            let taken = queue.take().unwrap();
            queue.done(taken.client, taken.cost());
        }
        assert_eq!(queue.waiting_bytes(), 0);
    }

    #[test]
    fn parts_are_bounded_whatever_they_weigh() {
        let queue = Queue::new(usize::MAX / 4, 1.0);
        let offered = (0..PARTS_MAX as u64 + 9).map(|client| queue.offer(parcel(client, 0)));
        assert_eq!(
            offered.filter(|offered| *offered == Offered::Lost).count(),
            9,
            "what is beyond the bound"
        );
        assert_eq!(queue.waiting_parts(), PARTS_MAX);
    }

    #[test]
    fn heads_are_bounded_as_well() {
        let queue = Queue::new(100_000, 1.0);
        let offered: Vec<_> = (0..1_000).map(|client| queue.offer(parcel(client, 0))).collect();
        assert!(offered.contains(&Offered::Lost), "heads alone went over every bound");
        assert!(queue.waiting_bytes() <= 100_000 + 100_000 / HEADS_DIVISOR);
    }
}
