//! checkgate: an inline inference proxy that recognises attacks on a model through its API and blocks them.
//!
//! [`main`] reads the command line and hands over. `serve` puts the running proxy together; a request's way is `way`,
//! a capture's way is `lane`, and what is decided upon there comes from `checkgate-detectors`. This is the program as
//! a library, so that fuzz targets and instruction counts reach its inner parts; nothing else should build on it.

mod admin;
mod authz;
mod capture;
mod cli;
mod clock;
mod control;
mod decode;
mod demo;
mod doctor;
mod eight;
mod farthest;
mod gate;
mod identity;
mod inbound;
mod journal;
mod lane;
mod lapi;
mod ledger;
mod metrics;
mod moment;
mod parts;
mod plan;
mod quiet;
mod records;
mod reference;
mod rehearse;
mod report;
pub mod screen;
mod serve;
#[cfg(test)]
mod simulation;
mod sinks;
mod socket;
mod state;
mod telemetry;
mod told;
mod transport;
mod upstream;
mod wakes;
mod way;
pub mod workbench;

pub use cli::main;
