//! What all connections of one kind of listener share.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use checkgate_config::Settings;

use super::caps::{Connections, Place};
use super::rejected::Rejected;
use super::rules::Rules;
use super::tls::{TlsError, TlsHandle};
use crate::metrics::Metrics;

/// The rules in force, the certificates, the open connections, and what is counted.
#[derive(Debug)]
pub struct Downstream {
    rules: ArcSwap<Rules>,
    tls: Option<TlsHandle>,
    connections: Arc<Connections>,
    metrics: Arc<Metrics>,
}

impl Downstream {
    /// Under `rules`; with `tls`, its TCP listeners speak nothing else.
    #[must_use]
    pub fn new(rules: Rules, tls: Option<TlsHandle>, metrics: Arc<Metrics>) -> Self {
        Self { rules: ArcSwap::from_pointee(rules), tls, connections: Arc::default(), metrics }
    }

    /// Other rules and certificates for the connections to come. Those that are open keep the ones that they began
    /// under.
    ///
    /// # Errors
    /// A file of TLS is missing or holds something else; then nothing changes.
    pub fn adopt(&self, settings: &Settings) -> Result<(), TlsError> {
        if let (Some(handle), Some(tls)) = (&self.tls, &settings.tls) {
            handle.reload(tls)?;
        }
        self.rules.store(Arc::new(Rules::of(settings)));
        Ok(())
    }

    /// The rules for a connection that begins now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// TLS, where TCP listeners speak it.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsHandle> {
        self.tls.as_ref()
    }

    /// Takes a place for a connection from `ip`, which a unix socket has not.
    ///
    /// # Errors
    /// A cap is reached; it was counted.
    pub fn admit(&self, ip: Option<IpAddr>, rules: &Rules) -> Result<Place, Rejected> {
        let counted = ip.filter(|ip| !rules.is_shared(*ip));
        self.connections.admit(counted, rules.caps).inspect_err(|reason| self.reject(*reason))
    }

    /// Counts what was turned away.
    pub fn reject(&self, reason: Rejected) {
        self.metrics.rejected.inc(reason);
    }
}
