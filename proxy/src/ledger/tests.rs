use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use checkgate_detectors::finding::DecisionId;

use super::disk::faulty::{Fault, Memory};
use super::entry::Status;
use super::line::tests::{client, decided, entry};
use super::log::{SEGMENT_BYTES, Scan, segment_name, segments};
use super::store::{Recovered, Store};
use super::*;

fn on(disk: &Memory) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn opened(disk: &Memory) -> (Store, Book, Recovered) {
    Store::open(&on(disk), Bounds::default(), SEGMENT_BYTES).unwrap()
}

fn write(store: &mut Store, entries: impl IntoIterator<Item = Entry>) {
    let entries: Vec<_> = entries.into_iter().map(Arc::new).collect();
    let batch = store.batch(entries.iter(), usize::MAX);
    store.write(&batch).unwrap();
    entries.iter().for_each(|entry| store.wrote(entry));
}

/// A store of `entries` entries; the index goes up to `indexed`.
fn filled(entries: u64, indexed: u64) -> Memory {
    let disk = Memory::default();
    let (mut store, mut book, _) = opened(&disk);
    for number in 1..=entries {
        write(&mut store, [entry(number)]);
        book.take(&entry(number));
        if number == indexed {
            let changes = store.changes(&book, book.clone().take_gone()).unwrap();
            assert!(store.checkpoint(changes), "the index can be written");
        }
    }
    disk
}

/// What a book remembers, by the numbers of entries.
fn held(book: &Book) -> BTreeSet<u64> {
    let decisions = book.decisions(None).map(|(number, _)| number);
    decisions.chain(book.findings(None).map(|found| found.number)).collect()
}

#[test]
fn a_store_reads_back_from_log_and_index() {
    for indexed in [0, 1, 5, 9] {
        let disk = filled(9, indexed);
        let (_, book, recovered) = opened(&disk);
        assert_eq!(held(&book), (1..=9).collect(), "the index goes up to {indexed}");
        assert_eq!(recovered, Recovered { read: 9 - indexed, ..Recovered::default() }, "up to {indexed}");
        assert_eq!(book.decision(DecisionId(4)), Some(&decided(4)));
    }
}

#[test]
fn a_log_that_is_cut_at_any_byte_loses_what_was_cut_and_nothing_else() {
    for indexed in [0, 2] {
        let whole = filled(4, indexed);
        let name = segment_name(1);
        let log = whole.get(&name).unwrap();
        let ends: Vec<usize> = (0..log.len()).filter(|at| log[*at] == b'\n').map(|at| at + 1).collect();
        for cut in 0..log.len() {
            let disk = whole.copy();
            disk.put(&name, &log[..cut]);
            let (mut store, book, recovered) = opened(&disk);
            // The end of a line alone is not missed.
            let left = ends.iter().filter(|end| **end - 1 <= cut).count() as u64;
            let kept = left.max(indexed);
            assert_eq!(held(&book), (1..=kept).collect(), "cut at byte {cut}, index up to {indexed}");
            assert_eq!(
                recovered.lost,
                indexed.saturating_sub(left),
                "cut at byte {cut}: lost behind the index"
            );
            write(&mut store, [entry(kept + 1)]);
            drop(store);
            let (_, book, again) = opened(&disk);
            assert_eq!(held(&book), (1..=kept + 1).collect(), "what came after a cut at byte {cut}");
            assert_eq!((again.torn, again.lost), (0, 0), "a cut at byte {cut} is told once");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_log_costs_one_record_and_is_counted() {
    let whole = filled(3, 0);
    let name = segment_name(1);
    let log = whole.get(&name).unwrap();
    for at in 0..log.len() {
        for bit in [at % 8, 6] {
            let disk = whole.copy();
            let mut flipped = log.clone();
            flipped[at] ^= 1 << bit;
            disk.put(&name, &flipped);
            let (mut store, book, recovered) = opened(&disk);
            let lost = 3 - held(&book).len() as u64;
            let line = log[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
            let place = format!("bit {bit} of byte {at}, in line {line}");
            assert!(lost <= 1, "{place}: {:?} are left", held(&book));
            let torn = u64::from(recovered.torn > 0);
            assert_eq!(recovered.lost + torn, lost, "{place}: the count");
            assert!(lost == 0 || !held(&book).contains(&line), "{place}: another record is gone");
            write(&mut store, [entry(book.last() + 1)]);
            drop(store);
            let (_, book, _) = opened(&disk);
            assert_eq!(held(&book).len() as u64, 4 - lost, "{place}: it goes on behind the damage");
        }
    }
}

#[test]
fn what_is_damaged_is_set_aside_once() {
    let disk = filled(5, 0);
    let name = segment_name(1);
    let mut log = disk.get(&name).unwrap();
    log[20] ^= 1;
    disk.put(&name, &log);
    for _ in 0..2 {
        opened(&disk);
    }
    let first = log.split(|byte| *byte == b'\n').next().unwrap();
    assert_eq!(disk.get("damaged-000001.bin").as_deref(), Some([first, b"\n"].concat().as_slice()));
}

#[test]
fn an_index_that_is_cut_or_flipped_anywhere_is_made_anew() {
    let whole = filled(6, 6);
    let index = whole.get(index::NAME).unwrap();
    // Pages that hold nothing are many and alike.
    let used: Vec<usize> = (0..index.len()).filter(|at| index[*at] != 0).collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for at in used.iter().copied().step_by(used.len() / 200 + 1) {
        let mut flipped = index.clone();
        flipped[at] ^= 1 << (at % 8);
        for damaged in [&flipped[..], &index[..at]] {
            let disk = whole.copy();
            disk.put(index::NAME, damaged);
            let (_, book, recovered) = opened(&disk);
            assert_eq!(held(&book), (1..=6).collect(), "byte {at} of {}", damaged.len());
            assert_eq!(recovered.lost, 0, "byte {at} of {}", damaged.len());
        }
    }
    std::panic::set_hook(hook);
}

#[test]
fn a_log_in_several_files_reads_back_and_one_that_is_gone_is_counted() {
    let disk = Memory::default();
    let (mut store, _, _) = Store::open(&on(&disk), Bounds::default(), 1500).unwrap();
    (1..=12).for_each(|number| write(&mut store, [entry(number)]));
    drop(store);
    let files = segments(&disk).unwrap();
    assert!(files.len() >= 4, "{files:?}");
    assert_eq!(held(&opened(&disk).1), (1..=12).collect());
    let mut scan = Scan::default();
    let mut in_second = 0;
    scan.read(&disk, log::Place::default(), &mut |_, place| in_second += u64::from(place.segment == 2))
        .unwrap();
    assert!(scan.is_whole(), "{scan:?}");
    disk.remove(&segment_name(2)).unwrap();
    let (_, book, recovered) = opened(&disk);
    assert_eq!((held(&book).len() as u64, recovered.lost), (12 - in_second, in_second));
}

fn settings(disk: &Memory) -> LedgerSettings {
    LedgerSettings {
        disk: on(disk),
        bounds: Bounds::default(),
        segment_bytes: 3000,
        retention: Retention::default(),
        clock: crate::clock::reading,
    }
}

fn started(disk: &Memory) -> Ledger {
    let hooks = Hooks { told: Box::new(|_| {}), opened: Box::new(|_, _| {}) };
    Ledger::start(settings(disk), hooks, None).unwrap()
}

fn note(ledger: &Ledger, number: u64) -> Ticket {
    let Entry { time, by, what, .. } = entry(number);
    ledger.note(time, by, what)
}

fn decisions(book: &Book) -> BTreeSet<u64> {
    book.decisions(None).map(|(_, decided)| decided.id.0).collect()
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn what_was_said_to_be_durable_is_there_after_a_power_cut() {
    let disk = Memory::default();
    let ledger = started(&disk);
    assert!(ledger.open(Opening::Afresh));
    let tickets: Vec<_> = (1..=50).map(|number| note(&ledger, number)).collect();
    assert!(tickets.into_iter().all(|ticket| ticket.wait() == Kept::Durable));
    let after = disk.after_power_cut();
    let (_, book, _) = opened(&after);
    assert_eq!(decisions(&book), decisions(&ledger.book()));
}

/// One run in which operation `fails` and `more` after it fail: entries, a close and an opening.
fn run_with_faults(fails: u64, more: u64, fault: Fault) -> u64 {
    let disk = Memory::default();
    let ledger = started(&disk);
    disk.plan.fail(fails, more, fault);
    ledger.open(Opening::Afresh);
    let mut durable = BTreeSet::new();
    for number in [1, 2, 4, 5, 7, 8, 10, 11] {
        if note(&ledger, number).wait() == Kept::Durable {
            durable.insert(number);
        }
        if number == 7 {
            ledger.close();
            ledger.open(Opening::Again);
        }
    }
    let place = format!("operation {fails} and {more} more, {fault:?}");
    let kept = decisions(&opened(&disk.after_power_cut()).1);
    assert!(durable.is_subset(&kept), "{place}: {durable:?} were durable, {kept:?} are left");
    disk.plan.mend();
    until(&format!("{place}: it does not recover"), || note(&ledger, 100).wait() == Kept::Durable);
    until(&format!("{place}: something is held back"), || ledger.is_durable(ledger.book().last()));
    let before: BTreeSet<u64> = decisions(&ledger.book());
    let operations = disk.plan.done();
    ledger.stop();
    let (_, book, recovered) = opened(&disk.after_power_cut());
    assert_eq!(decisions(&book), before, "{place}: after recovery everything is there");
    assert!(before.is_superset(&durable), "{place}: {durable:?} are in the book");
    let mut scan = Scan::default();
    scan.read(&disk.after_power_cut(), log::Place::default(), &mut |_, _| {}).unwrap();
    assert_eq!(recovered.lost, 0, "{place}: nothing is damaged: {scan:?}");
    operations
}

#[test]
fn no_disk_operation_that_fails_loses_what_was_durable_and_all_of_them_recover() {
    let operations = run_with_faults(u64::MAX, 0, Fault::Error);
    for fails in 0..operations {
        for (more, fault) in [(0, Fault::Error), (0, Fault::Short), (3, Fault::Error)] {
            run_with_faults(fails, more, fault);
        }
    }
}

#[test]
fn while_the_disk_fails_entries_are_in_memory_and_are_written_when_it_works_again() {
    let disk = Memory::default();
    let ledger = started(&disk);
    assert!(ledger.open(Opening::Afresh));
    assert_eq!(note(&ledger, 1).wait(), Kept::Durable);
    assert_eq!(ledger.trouble(), None);
    disk.plan.fail(0, u64::MAX, Fault::Short);
    assert_eq!(note(&ledger, 2).wait(), Kept::InMemory);
    assert!(ledger.trouble().is_some_and(|why| why.contains("fail")), "{:?}", ledger.trouble());
    assert!(ledger.book().decision(DecisionId(2)).is_some(), "the book knows of it");
    assert!(!decisions(&opened(&disk.after_power_cut()).1).contains(&2), "the disk does not");
    disk.plan.mend();
    until("it is durable again", || ledger.trouble().is_none());
    assert!(ledger.is_durable(ledger.book().last()));
    assert_eq!(decisions(&opened(&disk.after_power_cut()).1), [1, 2].into());
}

#[test]
fn what_finds_no_room_while_the_disk_fails_is_counted_and_the_log_says_so() {
    let disk = Memory::default();
    let ledger = started(&disk);
    assert!(ledger.open(Opening::Afresh));
    disk.plan.fail(0, u64::MAX, Fault::Error);
    let mut lost = 0;
    for _ in 0..WAITING_MAX + 10 {
        let kept = ledger.note(Time(1), By::itself(), What::KillSwitch { on: true });
        lost += u64::from(kept.0.is_terminated() || ledger.shared.inner.lock().unwritten.is_some());
    }
    assert!(lost > 0 && ledger.shared.inner.lock().waiting <= WAITING_MAX);
    disk.plan.mend();
    until("it is durable again", || ledger.trouble().is_none() && ledger.shared.inner.lock().waiting == 0);
    assert_eq!(note(&ledger, 1).wait(), Kept::Durable);
    let mut scan = Scan::default();
    let mut told = Vec::new();
    scan.read(&disk, log::Place::default(), &mut |line, _| {
        if let Some(What::Unwritten { first, last }) = line.entry.as_ref().map(|entry| &entry.what) {
            told.push((*first, *last));
        }
    })
    .unwrap();
    assert_eq!(told.len(), 1, "one entry tells which are missing");
    assert!(scan.is_whole(), "what is told is not lost: {:?} {:?}", scan.gaps, scan.breaks);
}

#[test]
fn an_approval_a_lift_and_an_edit_outlive_a_restart() {
    let disk = Memory::default();
    let ledger = started(&disk);
    assert!(ledger.open(Opening::Afresh));
    let by = By { who: "ann".into(), from: Some("192.0.2.1".into()), why: "looked at it".into() };
    for number in [1, 2, 4] {
        let proposed = super::entry::Decided { status: Status::Proposed, ..decided(number) };
        drop(ledger.note(Time(number), By::itself(), What::Decision(Box::new(proposed))));
    }
    let network = "192.0.2.0/24".parse().unwrap();
    for what in [
        What::Approved { id: DecisionId(1), until: Time(u64::MAX / 2) },
        What::Lifted { id: DecisionId(2) },
        What::Rejected { id: DecisionId(4) },
        What::NeverBlock { added: vec![network], removed: vec![] },
        What::KillSwitch { on: true },
    ] {
        drop(ledger.note(Time(9), by.clone(), what));
    }
    ledger.stop();
    let ledger = started(&disk);
    assert!(ledger.open(Opening::Afresh));
    let book = ledger.book();
    let status = |id| book.decision(DecisionId(id)).map(|decided| decided.status);
    assert_eq!([1, 2, 4].map(status), [Some(Status::InForce), Some(Status::Lifted), Some(Status::Rejected)]);
    assert!(book.never_block().contains(&network) && book.kill_switch());
    assert_eq!(book.open(crate::clock::now()).map(|decided| decided.id.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_client_that_is_erased_is_in_no_file_and_the_chain_is_whole() {
    let disk = Memory::default();
    let ledger = started(&disk);
    assert!(ledger.open(Opening::Afresh));
    (1..=30).for_each(|number| drop(note(&ledger, number)));
    let name = client(7).to_string();
    let in_files = |disk: &Memory| {
        let names = disk.list().unwrap();
        let holds = |file: &String| line::find(&disk.get(file).unwrap(), name.as_bytes()).is_some();
        names.into_iter().filter(holds).collect::<Vec<_>>()
    };
    let entries = ledger.erase(client(7), By::itself()).blocking_recv().unwrap().unwrap();
    assert_eq!(entries, 1);
    assert_eq!(ledger.book().decision(DecisionId(7)), None);
    ledger.stop();
    let files = in_files(&disk);
    // The entry that says who was erased, and when.
    assert!(files.len() == 1 && files[0].starts_with("audit-"), "{files:?}");
    let mut scan = Scan::default();
    scan.read(&disk, log::Place::default(), &mut |_, _| {}).unwrap();
    assert!(scan.is_whole() && scan.erased == 1, "{scan:?}");
    let (_, book, recovered) = opened(&disk);
    assert_eq!((book.decision(DecisionId(7)), recovered.lost), (None, 0));
    assert_eq!(held(&book).len(), 29);
}

#[test]
fn what_is_too_old_goes_and_what_is_open_stays_and_the_chain_goes_on() {
    let disk = Memory::default();
    let (mut store, mut book, _) = Store::open(&on(&disk), Bounds::default(), 2500).unwrap();
    let day = 86_400_000_000;
    for number in 1..=40 {
        let mut entry = entry(number);
        entry.time = Time(number * day);
        if let What::Decision(decided) = &mut entry.what {
            // Decision 4 is open for ever.
            decided.until = if decided.id.0 == 4 { Time(u64::MAX) } else { Time(number * day) };
        }
        book.take(&entry);
        write(&mut store, [entry]);
    }
    let retention = Retention {
        findings_for: Duration::from_secs(10 * 86_400),
        decisions_for: Duration::from_secs(20 * 86_400),
        bytes_max: u64::MAX,
    };
    let (now, mut reducer, mut removed) = (Time(41 * day), reduce::Reducer::default(), 0);
    let open = reduce::open_decisions(&book, now);
    assert_eq!(open, [DecisionId(4)].into());
    for step in 0..200 {
        let current = store.log().end().segment;
        if let Some(removal) = reducer.step(&disk, current, retention, &open, now).unwrap() {
            let what = removal.entry(&book);
            let entry = Entry { number: book.last() + 1, time: now, by: By::itself(), what };
            book.take(&entry);
            write(&mut store, [entry]);
            removal.remove(&disk).unwrap();
            removed += 1;
        }
        assert!(step < 199 || removed <= 1, "it comes to an end");
    }
    let mut scan = Scan::default();
    let mut with_content = Vec::new();
    scan.read(&disk, log::Place::default(), &mut |line, _| {
        with_content.extend(line.entry.iter().map(|entry| entry.number));
    })
    .unwrap();
    assert!(scan.is_whole(), "gaps {:?}, breaks {:?}", scan.gaps, scan.breaks);
    assert!(with_content.contains(&4), "the open decision: {with_content:?}");
    assert!(!with_content.contains(&5) && !with_content.contains(&6), "what is old: {with_content:?}");
    assert!(
        !with_content.contains(&24) && with_content.contains(&25),
        "a finding and a decision: {with_content:?}"
    );
    // Without the open decision the oldest files go as a whole.
    let nothing = BTreeSet::new();
    for _ in 0..200 {
        let current = store.log().end().segment;
        if let Some(removal) = reducer.step(&disk, current, retention, &nothing, now).unwrap() {
            let what = removal.entry(&book);
            let entry = Entry { number: book.last() + 1, time: now, by: By::itself(), what };
            book.take(&entry);
            write(&mut store, [entry]);
            removal.remove(&disk).unwrap();
            removed += 1;
        }
    }
    let mut scan = Scan::default();
    scan.read(&disk, log::Place::default(), &mut |_, _| {}).unwrap();
    assert!(
        removed > 0 && scan.is_whole(),
        "{removed} removed, gaps {:?}, breaks {:?}",
        scan.gaps,
        scan.breaks
    );
    assert_eq!(opened(&disk).2.lost, 0);
}

#[test]
fn entries_of_a_process_that_waits_for_the_log_come_behind_those_of_the_one_before() {
    let disk = Memory::default();
    let (old, new) = (started(&disk), started(&disk));
    assert!(old.open(Opening::Afresh));
    assert_eq!(note(&old, 1).wait(), Kept::Durable);
    assert_eq!(note(&new, 2).wait(), Kept::InMemory, "the log is another process's");
    old.close();
    assert_eq!(note(&old, 4).wait(), Kept::InMemory, "and now it is that one's");
    assert!(new.open(Opening::TakenOver));
    assert_eq!(decisions(&new.book()), [1, 2].into());
    until("what waited is written", || new.is_durable(new.book().last()));
    new.close();
    assert!(old.open(Opening::Again));
    assert_eq!(decisions(&old.book()), [1, 2, 4].into());
}

#[test]
fn a_folder_is_claimed_by_one_process_and_its_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk::Folder(folder.path().join("state/ledger")));
    let (mut store, _, _) = Store::open(&disk, Bounds::default(), SEGMENT_BYTES).unwrap();
    write(&mut store, [entry(1)]);
    let refused = Store::open(&disk, Bounds::default(), SEGMENT_BYTES).map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock, "{refused}");
    for name in [segment_name(1), index::NAME.to_owned(), "lock".to_owned()] {
        let file = folder.path().join("state/ledger").join(&name);
        let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    drop(store);
    assert_eq!(held(&Store::open(&disk, Bounds::default(), SEGMENT_BYTES).unwrap().1), [1].into());
    let read_only = disk::ReadOnly(folder.path().join("state/ledger"));
    assert!(read_only.open(&segment_name(1), false).unwrap().set_length(0).is_err(), "it only reads");
}

/// What a start with many decisions takes; the longer set runs it as a release build.
#[test]
#[ignore = "writes 200 MB"]
#[allow(clippy::print_stdout)]
fn a_hundred_thousand_open_decisions_load_in_a_second() {
    use super::entry::Decided;
    use crate::gate::{Gate, GateSettings};
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk::Folder(folder.path().join("ledger")));
    let now = crate::clock::now();
    let until = now.plus(Duration::from_secs(86_400));
    let padding = "x".repeat(700);
    let (mut store, mut book, _) = Store::open(&disk, Bounds::default(), SEGMENT_BYTES).unwrap();
    let entries = (1..=100_000).map(|number| {
        let evidence = format!("{{\"client\":\"{}\",\"why\":\"{padding}\"}}", client(number)).into();
        let decided = Decided { time: now, until, evidence, ..decided(number) };
        Arc::new(Entry { number, time: now, by: By::itself(), what: What::Decision(Box::new(decided)) })
    });
    let entries: Vec<_> = entries.collect();
    for chunk in entries.chunks(1000) {
        let batch = store.batch(chunk.iter(), usize::MAX);
        store.write(&batch).unwrap();
        chunk.iter().for_each(|entry| book.take(entry));
    }
    let checkpoint = store.changes(&book, Vec::new()).unwrap();
    assert!(store.checkpoint(checkpoint));
    drop((store, book, entries));
    let settings = GateSettings {
        blocks_max: 100_000,
        proven_keys_max: 1,
        brake: Default::default(),
        never_block: vec![],
        at_most: None,
        shared_addresses: Vec::new(),
        kill_switch: folder.path().join("kill-switch"),
    };
    let gate = Gate::new(settings, Metrics::new(&[], &[]).unwrap());
    let began = Instant::now();
    let (_store, book, recovered) = Store::open(&disk, Bounds::default(), SEGMENT_BYTES).unwrap();
    let opened = began.elapsed();
    gate.resume(book.open(now), now);
    let took = began.elapsed();
    println!("100000 open decisions: index read in {opened:.2?}, in force after {took:.2?}");
    assert_eq!((gate.list(now).len(), recovered.read), (100_000, 0));
    std::fs::remove_file(folder.path().join("ledger").join(index::NAME)).unwrap();
    drop((_store, book));
    let began = Instant::now();
    let (_, book, _) = Store::open(&disk, Bounds::default(), SEGMENT_BYTES).unwrap();
    println!("without the index, from the log: {:.2?}", began.elapsed());
    assert_eq!(book.open(now).count(), 100_000);
    assert!(cfg!(debug_assertions) || took < Duration::from_secs(1), "it took {took:?}");
}
