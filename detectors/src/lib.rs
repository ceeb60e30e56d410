//! The pure core of checkgate: facts in, findings and decisions out.
//!
//! Nothing here does I/O, reads a clock, starts a thread, draws randomness or iterates in hash order: time and
//! keys are arguments, so the same facts give the same decisions, live or replayed. The crate cannot fail, only
//! find; bad input is decided upon before it gets here.
//!
//! `bytes -> capture -> exchange -> detectors -> finding -> policy -> decision`: this crate begins at the
//! exchange. See `docs/ARCHITECTURE.md` for the whole way and `docs/lexicon.md` for the words.

mod amounts;
pub mod at_work;
pub mod campaign;
pub mod clients;
pub mod columns;
pub mod contract;
pub mod cumulative;
pub mod drift;
pub mod engine;
pub mod explain;
pub mod facts;
pub mod family;
pub mod finding;
pub mod geometry;
pub mod hashing;
pub mod identity;
pub mod in_force;
pub mod keys;
pub mod ladder;
pub mod lines;
pub mod linkage;
pub mod maintenance;
pub mod marginals;
pub mod margins;
pub mod names;
pub mod neighbours;
pub mod networks;
pub mod offences;
pub mod open;
pub mod pages;
pub mod places;
pub mod policy;
pub mod population;
pub mod prints;
pub mod processor;
pub mod query;
pub mod reference;
pub mod rules;
pub mod seen;
pub mod severity;
pub mod shelf;
pub mod standing;
pub mod tenants;
pub mod volume;
