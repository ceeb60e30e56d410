//! The screen: only clean HTTP passes.
//!
//! Pure state machines over the bytes and heads that a client sends; no I/O, no clock. The transport feeds them, and
//! whatever they refuse never reaches a parser, an upstream or a lane.

pub mod frames;
pub mod http1;
pub mod http2;
pub mod proxy_header;
mod refused;
mod rules;
#[cfg(test)]
mod tests;

pub use refused::Refused;
