//! References of drift as files: made from tables and recordings, read, signed, shown, compared and planned with.
//!
//! The core freezes and judges (`detectors/src/drift/`); this room reads what operators have ([`source`] and a file for
//! each form), gathers it in columns ([`rows`]), keeps what was frozen in one file with where it comes from ([`file`]),
//! and says in words and pictures what it is worth.

pub mod budget;
pub mod build;
pub mod compare;
mod csv;
pub mod file;
pub mod keys;
mod lines;
pub mod live;
mod parquet;
pub mod plan;
mod recording;
pub mod rows;
pub mod source;
pub mod svg;
pub mod words;
