//! The reader of the log: whatever becomes of its files, every entry is met once and what is not there is counted.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::spool::{Met, Spool, Stand};
use crate::ledger::book::Bounds;
use crate::ledger::disk::Disk;
use crate::ledger::disk::faulty::Memory;
use crate::ledger::line::tests::{client, entry};
use crate::ledger::log::{segment_name, segments};
use crate::ledger::reduce;
use crate::ledger::store::Store;

/// A log of `entries` entries in files of about `segment_bytes`.
fn log(entries: u64, segment_bytes: u64) -> (Memory, Store, Spool) {
    let disk = Memory::default();
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut store, ..) = Store::open(&on, Bounds::default(), segment_bytes).unwrap();
    append(&mut store, 1..=entries);
    (disk, store, Spool::new(on))
}

fn append(store: &mut Store, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let entries = [Arc::new(entry(number))];
        let batch = store.batch(entries.iter(), usize::MAX);
        store.write(&batch).unwrap();
    }
}

/// Reads everything from `from` on, in steps of about `bytes`; gives the numbers of entries that were met, and how many
/// were erased, damaged, removed and missing.
fn all(spool: &Spool, from: &mut Stand, up_to: u64, bytes: usize) -> (Vec<u64>, [u64; 4]) {
    let (mut numbers, mut lost) = (Vec::new(), [0; 4]);
    loop {
        let pieces = spool.read(*from, up_to, bytes).unwrap();
        if pieces.is_empty() {
            return (numbers, lost);
        }
        for piece in pieces {
            assert!(piece.stand.number > from.number, "it went back to {}", piece.stand.number);
            *from = piece.stand;
            match piece.met {
                Met::Entry { entry: met, .. } => {
                    assert_eq!(*met, entry(piece.stand.number), "an entry differs from what was written");
                    numbers.push(piece.stand.number);
                }
                Met::Erased { .. } => lost[0] += 1,
                Met::Damaged => lost[1] += 1,
                Met::Removed { entries } => lost[2] += entries,
                Met::Missing { entries } => lost[3] += entries,
            }
        }
    }
}

#[test]
fn every_entry_is_met_once_however_files_roll_and_wherever_one_begins() {
    for segment_bytes in [1, 3000, u64::MAX] {
        let (_, mut store, spool) = log(40, segment_bytes);
        for bytes in [1, 2000, usize::MAX] {
            for begin in [0, 1, 17, 39, 40] {
                let mut stand = Stand { number: begin, ..Stand::default() };
                let met = all(&spool, &mut stand, 40, bytes);
                assert_eq!(
                    met,
                    ((begin + 1..=40).collect(), [0; 4]),
                    "files of {segment_bytes}, steps of {bytes}"
                );
            }
        }
        let mut stand = Stand::default();
        all(&spool, &mut stand, 35, usize::MAX);
        assert_eq!(stand.number, 35, "what is not synced is not read");
        append(&mut store, 41..=45);
        assert_eq!(all(&spool, &mut stand, 45, 1), ((36..=45).collect(), [0; 4]));
    }
}

#[test]
fn an_erasure_that_shortens_a_file_costs_what_was_erased_and_nothing_else() {
    for read_before in 0..12 {
        let (disk, mut store, spool) = log(12, u64::MAX);
        let mut stand = Stand::default();
        let (before, _) = all(&spool, &mut stand, read_before, 1);
        store.log_mut().roll().unwrap();
        let erased = reduce::erase(&disk, store.log().end().segment, &client(5).to_string()).unwrap();
        assert_eq!(erased, 1);
        append(&mut store, 13..=14);
        let (after, lost) = all(&spool, &mut stand, 14, 1);
        let met: Vec<u64> = before.into_iter().chain(after).collect();
        let too_late = read_before >= 5;
        let expected: Vec<u64> = (1..=14).filter(|number| too_late || *number != 5).collect();
        assert_eq!(met, expected, "it had read {read_before}");
        assert_eq!(lost, [u64::from(!too_late), 0, 0, 0], "it had read {read_before}");
    }
}

#[test]
fn files_that_retention_removed_are_counted_to_the_unit() {
    let (disk, _store, spool) = log(30, 2000);
    let mut stand = Stand::default();
    all(&spool, &mut stand, 2, 1);
    disk.remove(&segment_name(1)).unwrap();
    disk.remove(&segment_name(2)).unwrap();
    let (met, lost) = all(&spool, &mut stand, 30, usize::MAX);
    assert_eq!(*met.last().unwrap(), 30);
    let gone = met[0] - 3;
    assert!(gone > 0, "the files held nothing that was not read");
    assert_eq!(lost, [0, 0, gone, 0], "what was removed");
}

#[test]
fn damage_costs_what_it_hit() {
    let (disk, _store, spool) = log(9, u64::MAX);
    let name = segment_name(1);
    let whole = disk.get(&name).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    for at in (0..whole.len()).step_by(7).filter(|at| *at < ends[7]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        disk.put(&name, &bytes);
        let (met, [erased, damaged, removed, missing]) = all(&spool, &mut Stand::default(), 9, usize::MAX);
        assert!(met.len() >= 7, "byte {at}: only {met:?} are left");
        assert_eq!(met.len() as u64 + damaged + missing + removed, 9, "byte {at}: {met:?}");
        assert_eq!(erased, 0);
    }
}

#[test]
fn a_log_that_was_begun_anew_is_known_for_another() {
    let (_, _store, spool) = log(9, u64::MAX);
    let mut stand = Stand::default();
    all(&spool, &mut stand, 5, 1);
    assert!(spool.knows(stand, 9).unwrap());
    assert!(spool.knows(Stand::default(), 9).unwrap(), "before the first entry");
    assert_eq!(spool.behind(5).unwrap(), stand, "found without reading up to there");
    assert!(spool.knows(Stand { number: 5, ..Stand::default() }, 9).unwrap(), "its line was not known");
    assert!(!spool.knows(Stand { number: 10, ..stand }, 9).unwrap(), "the log ends before");
    let (_, _other, other) = log(9, u64::MAX);
    assert!(!other.knows(stand, 9).unwrap(), "the same number in another log");
}

/// What may happen to a log while somebody reads it.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Append(u64),
    Roll,
    Erase(u64),
    RemoveOldest,
    Read(usize),
    /// The reader begins again where it stands, without a hint, as after a restart.
    Forget,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1_u64..8).prop_map(Happens::Append),
        Just(Happens::Roll),
        (1_u64..40).prop_map(Happens::Erase),
        Just(Happens::RemoveOldest),
        (1_usize..6000).prop_map(Happens::Read),
        Just(Happens::Forget),
    ]
}

/// One step of reading; adds what was met and what was lost.
fn step(spool: &Spool, stand: &mut Stand, last: u64, bytes: usize, met: &mut Vec<u64>, lost: &mut u64) {
    for piece in spool.read(*stand, last, bytes).unwrap() {
        assert!(piece.stand.number > stand.number, "it went back to {}", piece.stand.number);
        let passed = piece.stand.number - stand.number;
        *stand = piece.stand;
        match piece.met {
            Met::Entry { entry: read, .. } => {
                assert_eq!(read.number, stand.number);
                met.push(stand.number);
            }
            Met::Erased { .. } | Met::Damaged => *lost += 1,
            Met::Removed { entries } | Met::Missing { entries } => {
                assert_eq!(entries, passed, "what is counted is what was passed over");
                *lost += entries;
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_becomes_of_the_files_every_number_is_met_or_counted_once(
        story in prop::collection::vec(happens(), 1..60),
    ) {
        let (disk, mut store, spool) = log(3, 2500);
        let (mut last, mut stand, mut met, mut lost) = (3, Stand::default(), Vec::new(), 0);
        for happening in story {
            match happening {
                Happens::Append(count) => {
                    append(&mut store, last + 1..=last + count);
                    last += count;
                }
                Happens::Roll => store.log_mut().roll().unwrap(),
                Happens::Erase(number) => {
                    let current = store.log().end().segment;
                    reduce::erase(&disk, current, &client(number).to_string()).unwrap();
                }
                Happens::RemoveOldest => {
                    let all = segments(&disk).unwrap();
                    if all.len() > 1 {
                        disk.remove(&segment_name(all[0])).unwrap();
                    }
                }
                Happens::Read(bytes) => step(&spool, &mut stand, last, bytes, &mut met, &mut lost),
                Happens::Forget => stand.place = Default::default(),
            }
        }
        append(&mut store, last + 1..=last + 1);
        last += 1;
        while stand.number < last {
            step(&spool, &mut stand, last, usize::MAX, &mut met, &mut lost);
        }
        prop_assert!(met.windows(2).all(|pair| pair[0] < pair[1]), "{met:?}");
        prop_assert_eq!(met.len() as u64 + lost, last, "{:?} were met, {} lost", met, lost);
    }
}
