//! How settings are read: what was typed ([`raw`]) becomes what is meant ([`settings`]), once, at the door.
//!
//! After [`read()`](read::read) no code meets an unchecked value. Every refusal says where (line and column), what
//! was wrong, and the mend. The crate knows no detector and no decoder: the binary hands in its lists of
//! [`parts`], and a part owns its own parameters.

pub mod address;
mod certificates;
mod check;
pub mod defaults;
mod files;
pub mod golden;
pub mod key_set;
pub mod parts;
mod path;
pub mod problem;
pub mod raw;
pub mod read;
mod reference;
pub mod schema;
pub mod secret;
pub mod settings;
mod source;
mod tree;
pub mod units;
mod words;

pub use problem::Problem;
pub use raw::Raw;
pub use read::{Document, from_raw, read};
pub use settings::Settings;
