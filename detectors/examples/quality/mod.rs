//! The sections, and what they share.

pub mod adaptive;
pub mod at_block;
pub mod bounds;
pub mod crowd;
pub mod diluted;
pub mod disguised;
pub mod fidelity;
pub mod given;
pub mod goals;
pub mod honest;
pub mod host;
pub mod plot;
pub mod recorded;
pub mod split;
pub mod table;
