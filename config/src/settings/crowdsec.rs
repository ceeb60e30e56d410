//! Decisions that are enforced elsewhere, and taken from elsewhere, over CrowdSec's Local API (LAPI).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Secret, Tls};

/// Who enforces what is decided here, and whose decisions are enforced here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crowdsec {
    /// Where bouncers pull decisions; without it nobody does.
    pub serve: Option<LapiServer>,
    /// Where decisions are pulled from.
    pub pull: Vec<LapiSource>,
}

/// The listener at which bouncers pull decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LapiServer {
    /// Its address; port 0 takes any free port.
    pub listen: SocketAddr,
    /// TLS on this listener; without it, it is plain.
    pub tls: Option<Tls>,
    /// Who may pull: at least one, each with a name of its own.
    pub bouncers: Vec<Bouncer>,
    /// The type that bouncers read for a throttle; without it they are not told of throttles.
    pub throttle_as: Option<String>,
    /// The same for a degrade.
    pub degrade_as: Option<String>,
    /// Whether decisions that came from a source are told to bouncers as well.
    pub relay: bool,
}

/// Somebody who enforces decisions elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bouncer {
    /// Who it is: the label of its metrics.
    pub name: String,
    /// What it shows.
    pub key: BouncerKey,
    /// Whether it can enforce networks; where nobody said, its `User-Agent` decides.
    pub ranges: Option<bool>,
}

/// The API key of a bouncer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BouncerKey {
    /// Its SHA-256.
    Sha256([u8; 32]),
    /// The key itself.
    Plain(Secret),
}

/// A Local API whose decisions are enforced here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LapiSource {
    /// Its name: in the ledger, as an actor with a brake of its own, and the label of its metrics.
    pub name: String,
    /// Where it is.
    pub url: LapiUrl,
    /// The API key of this bouncer over there.
    pub key: Secret,
    /// How often it is asked, 500 ms to 1 h; where nobody said, it depends on who answers.
    pub every: Option<Duration>,
    /// Origins of decisions that are taken; empty for all.
    pub origins: Vec<String>,
    /// Words of which a scenario must hold one; empty for all.
    pub scenarios_containing: Vec<String>,
    /// Words of which a scenario must hold none.
    pub scenarios_not_containing: Vec<String>,
    /// Clients on whom decisions of this source stand at once.
    pub decisions_max: usize,
    /// Blocks a minute beyond which this source's are observations; without it, the brake's own limit holds.
    pub blocks_per_minute: Option<u32>,
}

/// The place of a Local API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LapiUrl {
    /// Host name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What stands before `/v1/decisions`: empty, or a path that begins with `/` and does not end in it.
    pub base: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Authorities (PEM) to believe; by default those of the system.
    pub ca: Option<PathBuf>,
}
