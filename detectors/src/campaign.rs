//! Campaigns: rows of several clients that form one cluster, as when one search is split over many identities.
//!
//! A row is *crowded* when ten rows lie closer to it than 0.4 of what is close among the reference's rows, among the
//! client's own and the suspect and recent rows of all others, at most three of one client. Rows that lie where the
//! reference is dense never count, nor do copies of one row. Rows near each other are linked to a cluster; a cluster
//! with crowded rows of four clients is a campaign.
//!
//! Shared evidence can be arranged by whoever sends near copies of somebody else's questions. So a campaign never
//! blocks a client: it is told with its members, and where questions are held, what lies in it is refused for a while
//! whoever asks.
//!
//! Compare Pang et al., Query Provenance Analysis, 2024. O(log rows) a row, O(rows of a cluster) where two become one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::facts::Time;
use crate::finding::DecisionId;
use crate::identity::{Address, Identity};
use crate::lines::{Origin, Trail};
use crate::neighbours::{Other, RowId};

/// The name under which campaigns are told.
pub const NAME: &str = "campaign";
/// One line for people.
pub const SUMMARY: &str =
    "Rows of several clients that form one cluster, as when one search is split among them";
/// MITRE ATLAS technique.
pub const ATLAS: &str = "AML.T0043.001";
/// Entry of the OWASP Machine Learning Security Top 10.
pub const OWASP: &str = "ML01:2023";

/// Clients whose crowded rows make a cluster a campaign.
pub const CLIENTS_MIN: usize = 4;
/// Clusters remembered.
const CLUSTERS: usize = 256;
/// Rows whose cluster is remembered.
const ROWS: usize = 4096;
/// Members of a cluster that are told apart; further ones are not counted.
const MEMBERS: usize = 1024;
/// Members and networks that a record names.
const NAMED: usize = 20;

/// A cluster's number.
type ClusterId = u64;

/// The clusters of one model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Campaigns {
    clusters: BTreeMap<ClusterId, Cluster>,
    of_row: BTreeMap<RowId, ClusterId>,
    next: ClusterId,
    evicted: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Cluster {
    members: BTreeMap<Identity, Address>,
    trail: Trail,
    /// Members when it was told last.
    told: usize,
    latest: Time,
    refused: Option<(DecisionId, Time)>,
}

/// A row near rows of other clients.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The row.
    pub row: RowId,
    /// Rows of other clients in one cluster with it.
    pub near: &'a [Other],
    /// Whether it is crowded.
    pub is_crowded: bool,
    /// Whose row it is.
    pub client: Identity,
    /// Where it came from.
    pub address: Address,
    /// Its request.
    pub origin: Origin,
}

/// A cluster that has become a campaign, or has twice the members that it had when it was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    id: ClusterId,
    /// Clients with crowded rows in it.
    pub clients: usize,
    /// Its crowded rows.
    pub trail: Trail,
}

/// A campaign as records tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Campaign {
    /// Its id within the model; the same in later records of it.
    pub id: CampaignId,
    /// Clients with crowded rows in it.
    pub clients_total: usize,
    /// Up to 20 of them.
    pub clients: Vec<String>,
    /// Up to 20 networks that they come from: IPv4 by /24, IPv6 by /48.
    pub networks: Vec<String>,
}

/// The id of a campaign within its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CampaignId(ClusterId);

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c-{}", self.0)
    }
}

impl Serialize for CampaignId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Campaigns {
    /// Links a row to its cluster; says where that makes it a campaign, or a campaign twice as large.
    pub fn take(&mut self, sighting: &Sighting<'_>) -> Option<Grown> {
        let id = self.cluster_of(sighting.near);
        self.link(sighting.row, id);
        for other in sighting.near {
            self.link(other.row, id);
        }
        let cluster = self.clusters.get_mut(&id)?;
        cluster.latest = sighting.origin.time;
        if !sighting.is_crowded {
            return None;
        }
        cluster.trail.add(sighting.origin);
        if cluster.members.len() < MEMBERS {
            cluster.members.insert(sighting.client, sighting.address);
        }
        let clients = cluster.members.len();
        let grown = clients >= CLIENTS_MIN.max(cluster.told * 2);
        grown.then(|| {
            cluster.told = clients;
            Grown { id, clients, trail: cluster.trail }
        })
    }

    /// The decision that refuses what lies near these rows, if one is in force.
    #[must_use]
    pub fn refuses(&self, near: &[Other], now: Time) -> Option<DecisionId> {
        let clusters = near.iter().filter_map(|other| self.clusters.get(self.of_row.get(&other.row)?));
        clusters.filter_map(|cluster| cluster.refused).find_map(|(id, until)| (now < until).then_some(id))
    }

    /// Refuses what lies in a campaign until `until`.
    pub fn refuse(&mut self, grown: &Grown, decision: DecisionId, until: Time) {
        if let Some(cluster) = self.clusters.get_mut(&grown.id) {
            cluster.refused = Some((decision, until));
        }
    }

    /// An operator lifted a decision.
    pub fn lift(&mut self, decision: DecisionId) {
        for cluster in self.clusters.values_mut() {
            cluster.refused = cluster.refused.filter(|(id, _)| *id != decision);
        }
    }

    /// A campaign as a record tells it.
    #[must_use]
    pub fn told(&self, grown: &Grown) -> Campaign {
        let members = self.clusters.get(&grown.id).map(|cluster| &cluster.members);
        let members = || members.into_iter().flatten();
        let networks: BTreeSet<String> = members().map(|(_, address)| network(*address)).collect();
        Campaign {
            id: CampaignId(grown.id),
            clients_total: grown.clients,
            clients: members().take(NAMED).map(|(client, _)| client.to_string()).collect(),
            networks: networks.into_iter().take(NAMED).collect(),
        }
    }

    /// Clusters forgotten to make room, ever.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The cluster that `near` rows belong to; where they belong to several, these become one.
    fn cluster_of(&mut self, near: &[Other]) -> ClusterId {
        let known = near.iter().filter_map(|other| self.of_row.get(&other.row).copied());
        let known: BTreeSet<ClusterId> = known.filter(|id| self.clusters.contains_key(id)).collect();
        let mut known = known.into_iter();
        let Some(oldest) = known.next() else { return self.found() };
        known.for_each(|younger| self.merge(oldest, younger));
        oldest
    }

    fn found(&mut self) -> ClusterId {
        if self.clusters.len() >= CLUSTERS {
            let idle = self.clusters.iter().min_by_key(|(id, cluster)| (cluster.latest, **id));
            let idle = idle.map(|(id, _)| *id);
            idle.and_then(|id| self.clusters.remove(&id));
            self.evicted += 1;
        }
        let id = self.next;
        self.next += 1;
        self.clusters.insert(id, Cluster::default());
        id
    }

    fn merge(&mut self, into: ClusterId, from: ClusterId) {
        let Some(from_cluster) = self.clusters.remove(&from) else { return };
        let Some(cluster) = self.clusters.get_mut(&into) else { return };
        let room = MEMBERS.saturating_sub(cluster.members.len());
        let new =
            from_cluster.members.into_iter().filter(|(client, _)| !cluster.members.contains_key(client));
        let new: Vec<_> = new.take(room).collect();
        cluster.members.extend(new);
        cluster.trail = cluster.trail.joined(&from_cluster.trail);
        cluster.told = cluster.told.max(from_cluster.told);
        cluster.refused = cluster.refused.or(from_cluster.refused);
        self.of_row.values_mut().filter(|id| **id == from).for_each(|id| *id = into);
    }

    fn link(&mut self, row: RowId, cluster: ClusterId) {
        self.of_row.insert(row, cluster);
        if self.of_row.len() > ROWS {
            self.of_row.pop_first();
        }
    }
}

fn network(address: Address) -> String {
    match address.ip() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(row: RowId) -> Other {
        Other { row, client: 0, ratio: 0.1 }
    }

    /// Client `client` sends `row` near rows `near`.
    fn send(campaigns: &mut Campaigns, row: RowId, near: &[RowId], client: u8) -> Option<Grown> {
        let near: Vec<Other> = near.iter().map(|row| other(*row)).collect();
        let address = Address::of(IpAddr::from([192, 0, client, 7]));
        campaigns.take(&Sighting {
            row,
            near: &near,
            is_crowded: true,
            client: Identity::Address(address),
            address,
            origin: Origin { request: row, time: Time(row) },
        })
    }

    #[test]
    fn crowded_rows_of_four_clients_are_a_campaign_and_eight_are_told_again() {
        let mut campaigns = Campaigns::default();
        let told: Vec<usize> = (1..=12_u8)
            .filter_map(|number| {
                let row = RowId::from(number);
                let near: Vec<RowId> = (row > 1).then(|| row - 1).into_iter().collect();
                send(&mut campaigns, row, &near, number).map(|grown| grown.clients)
            })
            .collect();
        assert_eq!(told, [4, 8]);
    }

    #[test]
    fn one_busy_client_is_no_campaign() {
        let mut campaigns = Campaigns::default();
        assert!((1..100).all(|row| send(&mut campaigns, row, &[row - 1], 1).is_none()));
    }

    #[test]
    fn two_clusters_that_meet_become_one() {
        let mut campaigns = Campaigns::default();
        send(&mut campaigns, 1, &[0], 1);
        send(&mut campaigns, 11, &[10], 2);
        send(&mut campaigns, 12, &[11], 4);
        let grown = send(&mut campaigns, 20, &[1, 11], 3).unwrap();
        assert_eq!((grown.clients, grown.trail.rows), (4, 4));
        let told = campaigns.told(&grown);
        assert_eq!(told.networks, ["192.0.1.0/24", "192.0.2.0/24", "192.0.3.0/24", "192.0.4.0/24"]);
    }

    #[test]
    fn what_lies_in_a_refused_campaign_is_refused_until_its_end_or_a_lift() {
        let mut campaigns = Campaigns::default();
        send(&mut campaigns, 1, &[0], 1);
        send(&mut campaigns, 2, &[1], 2);
        send(&mut campaigns, 3, &[2], 3);
        let grown = send(&mut campaigns, 4, &[3], 4).unwrap();
        campaigns.refuse(&grown, DecisionId(7), Time(100));
        assert_eq!(campaigns.refuses(&[other(2)], Time(50)), Some(DecisionId(7)));
        assert_eq!(campaigns.refuses(&[other(99)], Time(50)), None, "elsewhere");
        assert_eq!(campaigns.refuses(&[other(2)], Time(100)), None, "ended");
        campaigns.lift(DecisionId(7));
        assert_eq!(campaigns.refuses(&[other(2)], Time(50)), None, "lifted");
    }

    #[test]
    fn memory_is_bounded() {
        let mut campaigns = Campaigns::default();
        for row in 0..20_000_u64 {
            send(&mut campaigns, row * 2, &[row * 2 + 1], (row % 200) as u8);
        }
        assert!(campaigns.clusters.len() <= CLUSTERS && campaigns.of_row.len() <= ROWS);
        assert!(campaigns.evicted() > 0);
    }
}
