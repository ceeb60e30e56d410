//! How settings are read: what was typed ([`raw`]) becomes what is meant ([`settings`]), once, at the door.
//!
//! After [`check`](read::check) no code meets an unchecked value. Every refusal says where (line and column), what
//! was wrong, and the mend. The crate knows no detector and no decoder: the binary hands in its lists of
//! [`parts`], and a part owns its own parameters.

pub mod parts;
pub mod settings;
