//! What was told is kept: across a kill, and on a disk that is full.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use checkgate_load_tests::attack::{ask, honest_row, sweep_row};
use checkgate_load_tests::checkgate::{Checkgate, PATIENCE, Start};
use checkgate_load_tests::inference::answer;
use checkgate_load_tests::model_server::{Answer, ModelServer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Clients that sweep at once in a round.
const SWEEPERS: u32 = 8;

async fn pricing() -> ModelServer {
    ModelServer::always(Answer::value(&answer("pricing", &[vec![100.0]]))).await.unwrap()
}

async fn enforcing(server: &ModelServer, state: &Path) -> Checkgate {
    let config = json!({
        "upstream": format!("http://{}", server.address),
        "mode": "enforce",
        "clients": {"identity": "ip"},
        "brake": {"blocks_per_minute": 1_000_000, "share_of_clients": 1},
        "models": [{"name": "pricing"}],
    });
    Start::configured(config).in_state(state).run().await.unwrap()
}

/// The decisions that the findings file shows, with their clients: it gets a line only once that is synced.
fn told(checkgate: &Checkgate) -> BTreeMap<String, String> {
    let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
    let records = checkgate.records().unwrap();
    let decisions = records.iter().filter(|record| record["kind"] == "decision");
    decisions.map(|record| (text(record, "decision_id"), text(record, "client"))).collect()
}

/// The decisions in force.
async fn in_force(checkgate: &Checkgate) -> Vec<String> {
    let listed = checkgate.ask("/v1/decisions?limit=10000").await.unwrap().json().unwrap();
    let active = listed["active"].as_array().unwrap().clone();
    active.iter().map(|block| block["decision_id"].as_str().unwrap().to_owned()).collect()
}

async fn sweeps(checkgate: &Checkgate, round: u32) -> JoinSet<()> {
    let mut sweeps = JoinSet::new();
    for sweeper in 0..SWEEPERS {
        let address = format!("127.{}.{}.{}", 100 + round / 250, 1 + round % 250, 1 + sweeper);
        let mut client = checkgate.client(&address);
        sweeps.spawn(async move {
            for row in 0..40 {
                // The process may be killed at any time.
                if ask(&mut client, sweep_row(row)).await.is_err() {
                    return;
                }
            }
        });
    }
    sweeps
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_before_a_kill_is_in_force_after_it() {
    let rounds: u32 = std::env::var("DURABLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let server = pricing().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut checkgate = enforcing(&server, &state).await;
    for round in 0..rounds {
        let sweeping = sweeps(&checkgate, round).await;
        tokio::time::sleep(Duration::from_millis(u64::from(20 + round * 37 % 180))).await;
        checkgate.signal("KILL").unwrap();
        checkgate.ended().await.unwrap();
        drop(sweeping);
        all.extend(told(&checkgate));
        checkgate = enforcing(&server, &state).await;
        let active = in_force(&checkgate).await;
        let lost: Vec<_> = all.keys().filter(|id| !active.contains(id)).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} of {} were told and are gone", all.len());
        for address in all.values().rev().take(3) {
            let reply = ask(&mut checkgate.client(address), honest_row(1, round)).await.unwrap();
            assert_eq!(reply.status, 403, "round {round}: {address} is not refused after the kill");
        }
    }
    assert!(all.len() >= rounds as usize / 2, "only {} decisions were told in {rounds} rounds", all.len());
    assert_eq!(checkgate.metric("checkgate_ledger_lost_total", &[]).await.unwrap(), 0.0);
    checkgate.stop().await.unwrap();
    checkgate.command(&["audit", "verify"]).unwrap();
}

/// A small file system of its own; it goes when this is dropped.
struct Small(PathBuf);

impl Small {
    /// Nothing where this user may not mount.
    fn mount(folder: &Path, size: &str) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder)
            .output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned()))
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [65_536, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

async fn durable(checkgate: &Checkgate, wanted: f64, within: Duration) {
    let deadline = Instant::now() + within;
    while checkgate.metric("checkgate_ledger_durable", &[]).await.unwrap() != wanted {
        assert!(Instant::now() < deadline, "checkgate_ledger_durable is not {wanted} within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sweeps until it is refused; every answer before is 200.
async fn swept(checkgate: &Checkgate, address: &str) {
    let mut client = checkgate.client(address);
    for row in 0..400 {
        let status = ask(&mut client, sweep_row(row)).await.unwrap().status;
        if status == 403 {
            return;
        }
        assert_eq!(status, 200, "a request of {address} failed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{address} was never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_no_request_and_what_is_decided_meanwhile_is_kept_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path(), "4m") else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("skipped: this user may not mount a small file system");
        }
        return;
    };
    let server = pricing().await;
    let state = folder.path().join("state");
    let mut checkgate = enforcing(&server, &state).await;
    swept(&checkgate, "127.0.90.1").await;
    durable(&checkgate, 1.0, PATIENCE).await;
    let filler = small.fill();
    for number in 0..200 {
        let reply = ask(&mut checkgate.client("127.0.90.9"), honest_row(9, number)).await.unwrap();
        assert_eq!(reply.status, 200, "an honest request failed on a full disk");
    }
    let mut last = 1;
    while checkgate.metric("checkgate_ledger_durable", &[]).await.unwrap() == 1.0 {
        // A block has room to the end of the page that its file has already.
        last += 1;
        assert!(last < 100, "the disk is never full");
        swept(&checkgate, &format!("127.0.91.{last}")).await;
    }
    assert_eq!(ask(&mut checkgate.client("127.0.90.1"), honest_row(2, 1)).await.unwrap().status, 403);
    fs::remove_file(filler).unwrap();
    durable(&checkgate, 1.0, Duration::from_secs(5)).await;
    let before = in_force(&checkgate).await;
    checkgate.signal("KILL").unwrap();
    checkgate.ended().await.unwrap();
    let mut checkgate = enforcing(&server, &state).await;
    let after = in_force(&checkgate).await;
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} were in force, {after:?} are");
    let reply = ask(&mut checkgate.client(&format!("127.0.91.{last}")), honest_row(3, 1)).await.unwrap();
    assert_eq!(reply.status, 403, "the last client that was refused while the disk was full");
    checkgate.stop().await.unwrap();
    drop(small);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_keep_blocks_and_give_no_id_twice() {
    let server = pricing().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut ids: Vec<String> = Vec::new();
    for round in 1..=3 {
        let mut checkgate = enforcing(&server, &state).await;
        swept(&checkgate, &format!("127.0.92.{round}")).await;
        checkgate.records_with(|record| record["kind"] == "decision").await.unwrap();
        checkgate.stop().await.unwrap();
        ids.extend(told(&checkgate).into_keys());
    }
    let mut checkgate = enforcing(&server, &state).await;
    let active = in_force(&checkgate).await;
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(ids.iter().all(|id| active.contains(id)), "{ids:?} were told, {active:?} are in force");
    for round in 1..=3 {
        let reply =
            ask(&mut checkgate.client(&format!("127.0.92.{round}")), honest_row(4, round)).await.unwrap();
        assert_eq!(reply.status, 403, "the block of run {round}");
    }
    checkgate.command(&["audit", "show"]).unwrap();
    checkgate.stop().await.unwrap();
}
