//! Who sends requests: honest clients, attackers with their ways of being somebody else, and victims that attackers
//! name or share an address with.
//!
//! Requests come as a peer and a head, and who they are from is said by `crate::identity`, as for a real request.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use checkgate_config::settings::{ClientIdentity, Clients, HopHeader};
use checkgate_detectors::identity::{Address, Identity};
use http::{HeaderMap, HeaderValue};

use super::dice::Dice;
use crate::identity::{Identify, keyed_hash};
use crate::metrics::Metrics;
use crate::transport::Peer;

/// Columns of a row.
pub const COLUMNS: usize = 5;
/// The header that keys come in.
const KEY_HEADER: &str = "x-api-key";
/// The trusted proxy that some clients come through.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// The secret of the instance.
pub const HASH_KEY: [u64; 2] = [0x5eed, 0x0d1ce];

/// What a client does.
#[derive(Clone, Debug, PartialEq)]
pub enum Habit {
    /// It asks what nobody asked before.
    Honest,
    /// It moves one field and nothing else.
    Sweeps { row: [f64; COLUMNS], column: usize },
    /// It varies one field after the other of one row.
    Stars { row: [f64; COLUMNS], turn: usize },
    /// It asks about many small changes of one row.
    Crowds { row: [f64; COLUMNS] },
    /// It finds questions to which the model answers what its contract forbids.
    Breaks,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it is, behind the proxy if it comes through it.
    pub ip: IpAddr,
    /// Whether it takes another address of its /64 for each request.
    pub rotates: bool,
    /// Whether it comes through the trusted proxy.
    pub proxied: bool,
    /// Its key.
    pub key: Option<String>,
    /// Whether it makes up a key for each request.
    pub invents_keys: bool,
    /// Whether it says that its requests come from others.
    pub names: Vec<IpAddr>,
    /// What it does.
    pub habit: Habit,
}

impl Client {
    pub fn is_honest(&self) -> bool {
        self.habit == Habit::Honest
    }

    /// The peer and the head of its next request.
    pub fn request(&self, dice: &mut Dice) -> (Peer, HeaderMap) {
        let mut headers = HeaderMap::new();
        let own = if self.rotates { rotated(self.ip, dice) } else { self.ip };
        let mut chain: Vec<String> = Vec::new();
        if !self.names.is_empty() {
            chain.push(dice.pick(&self.names).to_string());
        }
        if self.proxied {
            chain.push(own.to_string());
        }
        if !chain.is_empty() {
            headers.insert("x-forwarded-for", text(&chain.join(", ")));
        }
        if self.invents_keys {
            headers.insert(KEY_HEADER, text(&format!("made up {}", dice.below(1000))));
        } else if let Some(key) = &self.key {
            headers.insert(KEY_HEADER, text(key));
        }
        (Peer::plain(if self.proxied { PROXY } else { own }), headers)
    }

    /// The rows of its next question.
    pub fn rows(&mut self, dice: &mut Dice) -> Vec<[f64; COLUMNS]> {
        let count = dice.weighted(&[(6, 1), (2, 2), (1, 3)]);
        (0..count).map(|_| self.row(dice)).collect()
    }

    fn row(&mut self, dice: &mut Dice) -> [f64; COLUMNS] {
        match &mut self.habit {
            Habit::Honest | Habit::Breaks => anything(dice),
            Habit::Sweeps { row, column } => {
                let mut asked = *row;
                asked[*column] = dice.value(0.0, 100.0);
                asked
            }
            Habit::Stars { row, turn } => {
                let mut asked = *row;
                asked[*turn % COLUMNS] = dice.value(0.0, 100.0);
                *turn += 1;
                asked
            }
            Habit::Crowds { row } => row.map(|value| value + dice.value(0.0, 0.05)),
        }
    }

    /// Everything that a decision on it could be about.
    pub fn identities(&self) -> Vec<Identity> {
        let key = self.key.as_ref().map(|key| Identity::Key(keyed_hash(HASH_KEY, key.as_bytes())));
        [Identity::Address(Address::of(self.ip))].into_iter().chain(key).collect()
    }
}

/// A row that is near no other.
pub fn anything(dice: &mut Dice) -> [f64; COLUMNS] {
    std::array::from_fn(|_| dice.value(0.0, 100.0))
}

/// How clients are told apart in one world.
pub fn identify(dice: &mut Dice) -> Identify {
    let by_key =
        |verified_by_upstream| ClientIdentity::Header { name: KEY_HEADER.into(), verified_by_upstream };
    let identity = match dice.below(10) {
        0 => ClientIdentity::Assumed,
        1..5 => ClientIdentity::Address,
        5 => by_key(false),
        _ => by_key(true),
    };
    let clients = Clients {
        identity,
        trusted_proxies: vec![PROXY.into()],
        never_block: Vec::new(),
        shared_addresses: Vec::new(),
        hops: HopHeader::XForwardedFor,
        new_keys_per_address: 3,
        remembered: 100,
    };
    let metrics = Metrics::new(&[], &[]).unwrap();
    Identify::new(&clients, HASH_KEY, &metrics, None).unwrap()
}

/// The clients of one world.
pub fn population(dice: &mut Dice) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..4 + dice.below(9)).map(|number| honest(number, dice)).collect();
    let victims: Vec<IpAddr> = clients.iter().map(|client| client.ip).collect();
    for number in 0..1 + dice.below(3) {
        clients.push(attacker(number, &victims, dice));
    }
    clients
}

/// Those about whom no decision may be: what honest clients are known by and no attacker is.
pub fn victims(clients: &[Client]) -> BTreeSet<Identity> {
    let of = |honest: bool| clients.iter().filter(move |client| client.is_honest() == honest);
    let guilty: BTreeSet<Identity> = of(false).flat_map(Client::identities).collect();
    of(true).flat_map(Client::identities).filter(|identity| !guilty.contains(identity)).collect()
}

/// Those who belong to an enterprise tenant, in some worlds: what some clients are known by.
pub fn enterprise(clients: &[Client], dice: &mut Dice) -> BTreeSet<Identity> {
    if dice.chance(0.5) {
        return BTreeSet::new();
    }
    clients.iter().filter(|_| dice.chance(0.4)).flat_map(Client::identities).collect()
}

fn honest(number: usize, dice: &mut Dice) -> Client {
    let ip = match dice.below(4) {
        0 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, number as u16, 0, 0, 0, 7)),
        _ => IpAddr::V4(Ipv4Addr::new(192, 0, 2, number as u8)),
    };
    Client {
        ip,
        rotates: ip.is_ipv6() && dice.chance(0.5),
        proxied: dice.chance(0.3),
        key: dice.chance(0.5).then(|| format!("key of honest client {number}")),
        invents_keys: false,
        names: Vec::new(),
        habit: Habit::Honest,
    }
}

fn attacker(number: usize, victims: &[IpAddr], dice: &mut Dice) -> Client {
    let row = anything(dice);
    let habit = match dice.below(8) {
        0..4 => Habit::Sweeps { row, column: dice.below(COLUMNS) },
        4 | 5 => Habit::Stars { row, turn: 0 },
        6 => Habit::Crowds { row },
        _ => Habit::Breaks,
    };
    let ip = match dice.below(6) {
        0 => dice.pick(victims),
        1 | 2 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, number as u16, 0, 0, 0, 7)),
        _ => IpAddr::V4(Ipv4Addr::new(198, 51, 100, number as u8)),
    };
    Client {
        ip,
        rotates: ip.is_ipv6(),
        proxied: dice.chance(0.3),
        key: dice.chance(0.4).then(|| format!("key of attacker {number}")),
        invents_keys: dice.chance(0.2),
        names: if dice.chance(0.6) { victims.to_vec() } else { Vec::new() },
        habit,
    }
}

fn rotated(ip: IpAddr, dice: &mut Dice) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => {
            IpAddr::V6(Ipv6Addr::from_bits((ip.to_bits() >> 64 << 64) | dice.below(1 << 30) as u128))
        }
        v4 => v4,
    }
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap()
}

/// Whom the head of a request names first, whoever wrote it: to believe that is a bug.
pub fn first_hop(headers: &HeaderMap) -> Option<Address> {
    let chain = headers.get("x-forwarded-for")?.to_str().ok()?;
    chain.split(',').next()?.trim().parse().ok().map(Address::of)
}
