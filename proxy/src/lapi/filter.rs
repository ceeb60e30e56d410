//! What a bouncer asks for: the parameters of its request, and what it can enforce.

use ipnet::IpNet;

use super::board::Served;
use super::wire::{IP, RANGE};

/// Letters of one parameter that are looked at.
const LETTERS_MAX: usize = 4096;

/// Which decisions a bouncer is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Scopes in lower case; absent for all.
    scopes: Option<Vec<String>>,
    origins: Option<Vec<String>>,
    kinds: Option<Vec<String>>,
    containing: Option<Vec<String>>,
    not_containing: Vec<String>,
    value: Option<String>,
    network: Option<IpNet>,
    /// Whether decisions inside of `network` are asked for, in place of those around it.
    inside: bool,
    /// Whether the bouncer can enforce networks.
    pub ranges: bool,
    /// Whether it asks for everything.
    pub startup: bool,
}

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Neither address nor network.
    #[error("{0:?} is no address and no network")]
    Network(String),
    /// A parameter that is too long to be meant.
    #[error("the parameter {0:?} is too long")]
    TooLong(String),
}

impl Filter {
    /// What these parameters ask for.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn of(parameters: &[(String, String)]) -> Result<Self, BadRequest> {
        let mut filter = Self { ranges: true, ..Self::default() };
        for (name, value) in parameters {
            if value.len() > LETTERS_MAX {
                return Err(BadRequest::TooLong(name.chars().take(64).collect()));
            }
            match name.as_str() {
                "startup" => filter.startup = value == "true",
                "scope" | "scopes" => filter.scopes = Some(words(&value.to_ascii_lowercase())),
                "origin" | "origins" => filter.origins = Some(words(&value.to_ascii_lowercase())),
                "type" | "types" => filter.kinds = Some(words(&value.to_ascii_lowercase())),
                "scenarios_containing" => filter.containing = Some(words(&value.to_ascii_lowercase())),
                "scenarios_not_containing" => filter.not_containing = words(&value.to_ascii_lowercase()),
                "value" => filter.value = Some(value.clone()),
                "contains" => filter.inside = value == "false",
                "ip" | "range" => filter.network = Some(network(value)?),
                // Others are of no meaning here, such as `dedup`: no value is told twice.
                _ => {}
            }
        }
        Ok(filter)
    }

    /// The same for a bouncer that can, or cannot, enforce networks. Whether it starts is no part of what it is told.
    #[must_use]
    pub fn of_bouncer(&self, ranges: bool) -> Self {
        Self { ranges, startup: false, ..self.clone() }
    }

    /// Whether a decision is among what was asked for, whatever the bouncer can enforce.
    #[must_use]
    pub fn asks_for(&self, served: &Served) -> bool {
        let scope = if served.is_range() { RANGE } else { IP };
        among(self.scopes.as_deref(), scope)
            && among(self.origins.as_deref(), &served.origin)
            && among(self.kinds.as_deref(), &served.kind)
            && self.containing.as_ref().is_none_or(|words| holds_one(&served.scenario, words))
            && !holds_one(&served.scenario, &self.not_containing)
            && self.value.as_ref().is_none_or(|value| *value == served.value())
            && self.network.is_none_or(|network| self.meets(network, served.network()))
    }

    /// Whether the bouncer can enforce a decision.
    #[must_use]
    pub fn can(&self, served: &Served) -> bool {
        self.ranges || !served.is_range()
    }

    fn meets(&self, asked: IpNet, served: IpNet) -> bool {
        if self.inside { asked.contains(&served) } else { served.contains(&asked) }
    }
}

fn words(list: &str) -> Vec<String> {
    list.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

/// Whether `word` is on the list, case aside; a list that was not given holds all.
fn among(list: Option<&[String]>, word: &str) -> bool {
    list.is_none_or(|list| list.iter().any(|one| one.eq_ignore_ascii_case(word)))
}

fn holds_one(scenario: &str, words: &[String]) -> bool {
    if words.is_empty() {
        return false;
    }
    let scenario = scenario.to_ascii_lowercase();
    words.iter().any(|word| scenario.contains(word.as_str()))
}

fn network(text: &str) -> Result<IpNet, BadRequest> {
    checkgate_config::address::network(text)
        .ok_or_else(|| BadRequest::Network(text.chars().take(64).collect()))
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::served;
    use super::*;

    fn filter(query: &str) -> Filter {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Filter::of(&pairs.map(pair).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn each_parameter_chooses_as_a_local_api_does() {
        let (v4, v6) = (served("192.0.2.7", 1), served("2001:db8:1:2::7", 2));
        for (query, of_v4, of_v6) in [
            ("", true, true),
            ("startup=true", true, true),
            ("scopes=ip,range", true, true),
            ("scopes=Ip", true, false),
            ("scope=RANGE", false, true),
            ("scopes=Country", false, false),
            ("origins=checkgate", true, true),
            ("origins=crowdsec,cscli", false, false),
            ("type=ban", true, true),
            ("type=captcha", false, false),
            ("scenarios_containing=SWEEP", true, true),
            ("scenarios_containing=ssh,http", false, false),
            ("scenarios_not_containing=ssh", true, true),
            ("scenarios_not_containing=ssh,sweep", false, false),
            ("value=192.0.2.7", true, false),
            ("value=2001:db8:1:2::/64", false, true),
            ("ip=192.0.2.7", true, false),
            ("ip=192.0.2.8", false, false),
            ("ip=2001:db8:1:2:ffff::1", false, true),
            ("range=192.0.2.0/24", false, false),
            ("range=192.0.2.0/24&contains=false", true, false),
            ("range=2001:db8::/32&contains=false", false, true),
            ("dedup=false&additional_pull=true", true, true),
        ] {
            let filter = filter(query);
            assert_eq!((filter.asks_for(&v4), filter.asks_for(&v6)), (of_v4, of_v6), "{query}");
        }
        assert!(filter("startup=true").startup && !filter("startup=false").startup);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (name, value) in [("ip", "1.2.3"), ("range", "example.org"), ("ip", "")] {
            let bad = Filter::of(&[(name.to_owned(), value.to_owned())]).unwrap_err();
            assert_eq!(bad, BadRequest::Network(value.to_owned()));
        }
        let long = Filter::of(&[("origins".to_owned(), "x".repeat(LETTERS_MAX + 1))]);
        assert_eq!(long.unwrap_err(), BadRequest::TooLong("origins".into()));
    }
}
