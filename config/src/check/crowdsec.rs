//! Who enforces what is decided here, and whose decisions are enforced here.

use std::time::Duration;

use super::listeners::overlap;
use super::tokens::http_url;
use super::{Check, TEXT_MAX};
use crate::path::Path;
use crate::raw::{RawBouncer, RawCrowdsec, RawLapiServer, RawLapiSource};
use crate::secret::SecretSource;
use crate::settings::{Bouncer, BouncerKey, Crowdsec, LapiServer, LapiSource, LapiUrl, Listen, Secret};
use crate::units::Period;

/// Sources of decisions.
const SOURCES_MAX: usize = 16;
/// Words of one filter.
const WORDS_MAX: usize = 64;
/// How often a source may be asked.
const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3600);
const URL_EXAMPLE: &str = "write for example http://127.0.0.1:8080";

impl Check<'_> {
    /// Both directions. `taken` are the listeners that there are already.
    pub(super) fn crowdsec(&mut self, raw: &RawCrowdsec, taken: &[Listen]) -> Option<Crowdsec> {
        let serve = raw.serve.as_ref().map(|serve| self.lapi_server(serve, taken));
        let pull = self.lapi_sources(raw.pull.as_deref().unwrap_or_default());
        let serve = match serve {
            Some(serve) => Some(serve?),
            None => None,
        };
        Some(Crowdsec { serve, pull: pull? })
    }

    fn lapi_server(&mut self, raw: &RawLapiServer, taken: &[Listen]) -> Option<LapiServer> {
        let scope = Path::dotted("crowdsec.serve");
        let path = scope.key("listen");
        let listen = self.address(&path, raw.listen.as_deref()?, "127.0.0.1:8089 or [::1]:8089");
        if let Some(listen) = listen
            && taken.iter().any(|other| overlap(other, &Listen::Tcp(listen)))
        {
            self.refuse(&path, "another listener has this port already; bouncers need one of their own");
        }
        let tls = self.tls_at(&scope.key("tls"), raw.tls.as_ref());
        let bouncers = self.bouncers(&scope, raw.bouncers.as_deref().unwrap_or_default());
        let throttle_as = self.remediation(&scope.key("throttle_as"), raw.throttle_as.as_deref());
        let degrade_as = self.remediation(&scope.key("degrade_as"), raw.degrade_as.as_deref());
        Some(LapiServer {
            listen: listen?,
            tls: tls?,
            bouncers: bouncers?,
            throttle_as: throttle_as?,
            degrade_as: degrade_as?,
            relay: raw.relay?,
        })
    }

    fn bouncers(&mut self, scope: &Path, typed: &[RawBouncer]) -> Option<Vec<Bouncer>> {
        let list = scope.key("bouncers");
        self.few(&list, typed.len())?;
        if typed.is_empty() {
            let path = if self.was_typed(&list) { &list } else { scope };
            self.refuse_key(path, "nobody may pull; add \"bouncers: [{name: ..., sha256: ...}]\"");
            return None;
        }
        let bouncers: Vec<_> =
            typed.iter().enumerate().map(|(index, one)| self.bouncer(&list.index(index), one)).collect();
        let bouncers = bouncers.into_iter().collect::<Option<Vec<_>>>()?;
        self.once(&list, &bouncers.iter().map(|bouncer| bouncer.name.as_str()).collect::<Vec<_>>());
        Some(bouncers)
    }

    fn bouncer(&mut self, path: &Path, typed: &RawBouncer) -> Option<Bouncer> {
        let name = self.actor_name(path, "a bouncer's name", typed.name.as_deref());
        let key = match (typed.sha256.as_deref(), typed.key.as_ref()) {
            (Some(hash), None) => self.key_hash(&path.key("sha256"), hash),
            (None, Some(key)) => self.api_key(path, key).map(BouncerKey::Plain),
            _ => {
                self.refuse_key(path, "give either sha256 or key");
                None
            }
        };
        Some(Bouncer { name: name?, key: key?, ranges: typed.ranges })
    }

    fn key_hash(&mut self, path: &Path, hash: &str) -> Option<BouncerKey> {
        let bytes = super::admin::digest(hash);
        if bytes.is_none() {
            self.refuse(
                path,
                "expected 64 hexadecimal digits, the SHA-256 of the key; `printf %s KEY | sha256sum` prints them",
            );
        }
        bytes.map(BouncerKey::Sha256)
    }

    fn api_key(&mut self, path: &Path, key: &SecretSource) -> Option<Secret> {
        let path = path.key("key");
        self.secret_at(&path, key).and_then(|key| self.sound_key(&path, key))
    }

    fn sound_key(&mut self, path: &Path, key: String) -> Option<Secret> {
        let sound = (16..=256).contains(&key.len()) && key.chars().all(|c| c.is_ascii_graphic());
        if !sound {
            self.refuse(
                path,
                "a key is 16 to 256 visible ASCII characters without spaces; `openssl rand -hex 32` makes one",
            );
        }
        sound.then(|| Secret::new(key))
    }

    /// What a decision is called to bouncers; `Some(None)` where they are not told of it.
    fn remediation(&mut self, path: &Path, typed: Option<&str>) -> Option<Option<String>> {
        let Some(typed) = typed else { return Some(None) };
        let sound = (1..=32).contains(&typed.len())
            && typed.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        if !sound {
            self.refuse(path, "expected 1 to 32 lower-case letters or \"-\", such as captcha");
        }
        sound.then(|| Some(typed.to_owned()))
    }

    fn lapi_sources(&mut self, typed: &[RawLapiSource]) -> Option<Vec<LapiSource>> {
        let list = Path::dotted("crowdsec.pull");
        if typed.len() > SOURCES_MAX {
            self.refuse_key(&list, format!("more than {SOURCES_MAX} entries; remove those that nobody uses"));
            return None;
        }
        let sources: Vec<_> =
            typed.iter().enumerate().map(|(index, one)| self.lapi_source(&list.index(index), one)).collect();
        let sources = sources.into_iter().collect::<Option<Vec<_>>>()?;
        self.once(&list, &sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>());
        Some(sources)
    }

    fn lapi_source(&mut self, path: &Path, typed: &RawLapiSource) -> Option<LapiSource> {
        let name = self.actor_name(path, "a source's name", typed.name.as_deref());
        let url = self.lapi_url(path, typed);
        let key = typed.key.as_ref().and_then(|key| self.api_key(path, key));
        if typed.key.is_none() {
            self.refuse_key(path, "has no key; add \"key: ${NAME}\" or \"key: {file: PATH}\"");
        }
        let every = self.asked_every(&path.key("every"), typed.every);
        let origins = self.filter_words(&path.key("origins"), typed.origins.as_deref());
        let containing =
            self.filter_words(&path.key("scenarios_containing"), typed.scenarios_containing.as_deref());
        let not_containing = self
            .filter_words(&path.key("scenarios_not_containing"), typed.scenarios_not_containing.as_deref());
        if typed.blocks_per_minute.is_some_and(|blocks| !(1..=1_000_000).contains(&blocks)) {
            self.refuse(&path.key("blocks_per_minute"), "out of range; allowed is 1 to 1000000");
        }
        Some(LapiSource {
            name: name?,
            url: url?,
            key: key?,
            every: every?,
            origins: origins?,
            scenarios_containing: containing?,
            scenarios_not_containing: not_containing?,
            decisions_max: typed.decisions_max?,
            blocks_per_minute: typed.blocks_per_minute,
        })
    }

    fn lapi_url(&mut self, scope: &Path, typed: &RawLapiSource) -> Option<LapiUrl> {
        let ca_path = scope.key("ca");
        let ca = self.authorities(&ca_path, typed.ca.as_deref());
        let path = scope.key("url");
        let url = self.given(scope, "url", typed.url.as_deref())?;
        let read = http_url(url).map_err(|what| format!("{what}; {URL_EXAMPLE}"));
        let read = read.and_then(|url| match url.path.contains('?') {
            true => Err(format!("the URL of a Local API has no query; {URL_EXAMPLE}")),
            false => Ok(url),
        });
        let url = self.or_refuse(&path, read)?;
        if !url.tls && typed.ca.is_some() {
            self.refuse_key(&ca_path, "of no effect: the URL does not begin with https://; remove ca");
        }
        let base = url.path.trim_end_matches('/').to_owned();
        Some(LapiUrl { host: url.host, port: url.port, base, tls: url.tls, ca: ca? })
    }

    /// How often; `Some(None)` where nobody said.
    fn asked_every(&mut self, path: &Path, typed: Option<Period>) -> Option<Option<Duration>> {
        let Some(Period(every)) = typed else { return Some(None) };
        if !EVERY.contains(&every) {
            self.refuse(path, "out of range; allowed is 500ms to 1h");
            return None;
        }
        Some(Some(every))
    }

    /// Words that a Local API filters by, which it separates by commas.
    fn filter_words(&mut self, path: &Path, typed: Option<&[String]>) -> Option<Vec<String>> {
        let words = typed.unwrap_or_default();
        let sound = |word: &String| {
            (1..=TEXT_MAX).contains(&word.len()) && word.chars().all(|c| c.is_ascii_graphic() && c != ',')
        };
        if words.len() > WORDS_MAX || !words.iter().all(sound) {
            self.refuse(
                path,
                format!("expected at most {WORDS_MAX} words of visible ASCII characters without a comma"),
            );
            return None;
        }
        Some(words.to_vec())
    }
}
