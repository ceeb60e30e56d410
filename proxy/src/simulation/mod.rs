//! A simulation of one process with everything around it: virtual clocks, clients and an operator, and the real gate,
//! desk and ledger, without threads, sockets or files. One seed gives one run, so a run that breaks an invariant can be
//! had again:
//!
//! ```sh
//! SIMULATION_SEED=123 cargo test -p checkgate simulation::one_seed -- --nocapture
//! ```
//!
//! `SIMULATION_SEEDS` says how many seeds are tried. The manner is that of FoundationDB (Zhou et al., SIGMOD 2021) and
//! of TigerBeetle.

mod clients;
mod clock;
mod dice;
mod disk;
mod ends;
mod expected;
mod invariants;
mod mutants;
mod operator;
mod plans;
mod process;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::invariants::INVARIANTS;
use self::mutants::Mutant;
use self::process::Setting;
use self::world::{Counts, World};

/// Seeds of an ordinary run: some twenty seconds on one core in the dev profile.
const SEEDS: u64 = 2000;
/// Seeds within which every mutant must be caught.
const SEEDS_FOR_A_MUTANT: u64 = 500;

/// An invariant that does not hold.
struct Broken {
    invariant: &'static str,
    message: String,
}

/// Runs one world from its beginning to its end.
fn run(world: &mut World) -> Result<(), Broken> {
    for _ in 0..200 + world.dice.below(400) {
        world.step();
        look(world)?;
    }
    world.finish();
    look(world)?;
    world.step();
    look(world)
}

/// Holds every invariant against what has just happened.
fn look(world: &mut World) -> Result<(), Broken> {
    for happening in std::mem::take(&mut world.happened) {
        for invariant in INVARIANTS {
            (invariant.holds)(world, &happening).map_err(|seen| Broken {
                invariant: invariant.name,
                message: format!("{}: {}\n  seen: {seen}", invariant.name, invariant.sentence.trim()),
            })?;
        }
        world.looked_at(&happening);
    }
    Ok(())
}

/// One seed's run, its panics included.
fn run_seed(seed: u64, mutant: Option<Mutant>, setting: &Setting) -> Result<Counts, Broken> {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, mutant, setting.clone());
        run(&mut world).map(|()| world.counts)
    }));
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let message = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken { invariant: "nothing_panics", message: format!("it panicked: {message:?}") })
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_every_invariant_holds() {
    let setting = Setting::new();
    let mut sum = Counts::default();
    let seeds = from_environment("SIMULATION_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        match run_seed(seed, None, &setting) {
            Ok(counts) => sum.add(&counts),
            Err(broken) => panic!(
                "seed {seed}: {}\n  again: SIMULATION_SEED={seed} cargo test -p checkgate simulation::one_seed -- \
                 --nocapture",
                broken.message
            ),
        }
    }
    println!("{seeds} seeds: {sum:?}");
    assert!(sum.refused * 2 > seeds && sum.decisions > seeds, "hardly anything happened: {sum:?}");
}

#[test]
fn one_seed() {
    let Some(seed) = from_environment("SIMULATION_SEED") else { return };
    let mut world = World::new(seed, None, Setting::new());
    world.trace = Some(Vec::new());
    let ended = catch_unwind(AssertUnwindSafe(|| run(&mut world)));
    world.trace.iter().flatten().for_each(|line| println!("{line}"));
    match ended {
        Ok(Ok(())) => println!("seed {seed} breaks nothing: {:?}", world.counts),
        Ok(Err(broken)) => panic!("{}", broken.message),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

#[test]
fn one_seed_gives_one_run() {
    let setting = Setting::new();
    for seed in 0..20 {
        let lived = || {
            let mut world = World::new(seed, None, setting.clone());
            world.trace = Some(Vec::new());
            assert!(run(&mut world).is_ok(), "seed {seed}");
            (world.trace, world.process.lines, world.expected)
        };
        assert!(lived() == lived(), "seed {seed} gave two different runs");
    }
}

#[test]
fn every_bug_that_is_put_in_is_caught() {
    let setting = Setting::new();
    for (mutant, invariants) in Mutant::ALL {
        let caught = (0..SEEDS_FOR_A_MUTANT)
            .find_map(|seed| run_seed(seed, Some(*mutant), &setting).err().map(|broken| (seed, broken)));
        let Some((seed, broken)) = caught else { panic!("{mutant:?} is not caught") };
        println!("{mutant:?} is caught by seed {seed}: {}", broken.message);
        let meant = invariants.contains(&broken.invariant);
        assert!(meant, "{mutant:?} is caught by another invariant: {}", broken.message);
    }
}
