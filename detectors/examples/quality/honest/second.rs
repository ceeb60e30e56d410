//! Profiles that were written after the whole had been run once.

use super::Profile;

/// All of them.
pub const PROFILES: &[Profile] = &[];
