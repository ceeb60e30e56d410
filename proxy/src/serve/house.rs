//! The running process: its services, and the levers by which it stops and hands over.

use std::process::ExitCode;
use std::sync::Arc;

use checkgate_config::Settings;
use checkgate_config::settings::{Authz as Asked, LapiServer, Listen};
use hyper_util::service::TowerToHyperService;
use pingora_core::server::{RunArgs, Server};
use tokio::sync::watch;

use super::doors::{Door, Doorway, Until};
use super::hand_over::Giver;
use super::sockets::Sockets;
use super::stop::{Ending, Stop};
use super::threads::server_conf;
use super::{Admin, Parts, Proxy};
use crate::admin;
use crate::authz::{Authz, Terms};
use crate::control::Control;
use crate::lapi::source;
use crate::transport::downstream::Downstream;
use crate::transport::rules::Rules;
use crate::transport::tls::TlsHandle;
use crate::transport::{App, Handler};

/// What moves a running process.
#[derive(Debug)]
pub struct Levers {
    /// Doors at which connections are to be accepted: one for clients, one for operators, and one for other proxies
    /// and one for bouncers where these may ask.
    pub wanted: usize,
    /// Whether connections are accepted.
    pub doors: watch::Sender<Door>,
    /// Counts the doors at which they are.
    pub accepting: watch::Sender<usize>,
    /// Turns true when clients' connections must close.
    pub drain: watch::Sender<bool>,
    /// Turns true when operators' must: when another process answers them.
    pub operators_drain: watch::Sender<bool>,
    /// How the process ends.
    pub ending: watch::Sender<Ending>,
}

/// Services and levers.
pub struct House {
    settings: Settings,
    sockets: Arc<Sockets>,
    parts: Arc<Parts>,
    proxy: Arc<Proxy>,
    /// What moves them.
    pub levers: Arc<Levers>,
}

impl House {
    /// The process, before its services start.
    pub fn new(settings: Settings, sockets: Sockets, parts: Arc<Parts>, proxy: Arc<Proxy>) -> Self {
        let levers = Levers {
            wanted: 2
                + usize::from(!settings.authz.listen.is_empty())
                + usize::from(settings.crowdsec.serve.is_some()),
            doors: watch::Sender::new(Door::Open),
            accepting: watch::Sender::new(0),
            drain: watch::Sender::new(false),
            operators_drain: watch::Sender::new(false),
            ending: watch::Sender::new(Ending::Asked),
        };
        Self { settings, sockets: Arc::new(sockets), parts, proxy, levers: Arc::new(levers) }
    }

    /// The side of it that can be taken over.
    pub fn giver(&self) -> Giver {
        Giver {
            parts: Arc::clone(&self.parts),
            proxy: Arc::clone(&self.proxy),
            sockets: Arc::clone(&self.sockets),
            levers: Arc::clone(&self.levers),
            state: self.settings.state.clone(),
        }
    }

    /// Serves to the end.
    pub fn run(self) -> ExitCode {
        let mut server = Server::new_with_opt_and_conf(None, server_conf(&self.settings));
        server.bootstrap();
        server.add_service(self.front_door());
        let control = Arc::new(self.parts.control());
        if let Err(error) = source::start(self.parts.sources(&control)) {
            tracing::error!(%error, "nothing is pulled from sources of decisions");
        }
        server.add_service(self.operators_door(control));
        if let Some(serve) = &self.settings.crowdsec.serve {
            match self.bouncers_door(serve) {
                Ok(door) => drop(server.add_service(door)),
                Err(error) => {
                    tracing::error!("bouncers cannot pull: {error:#}");
                    return ExitCode::FAILURE;
                }
            }
        }
        if !self.settings.authz.listen.is_empty() {
            server.add_service(self.proxies_door());
        }
        server.run(RunArgs {
            shutdown_signal: Box::new(Stop {
                parts: Arc::clone(&self.parts),
                proxy: Arc::clone(&self.proxy),
                sockets: Arc::clone(&self.sockets),
                levers: Arc::clone(&self.levers),
                settings: self.settings.clone(),
            }),
        });
        self.parts.stop();
        match *self.levers.ending.borrow() {
            Ending::Refused => ExitCode::FAILURE,
            Ending::Asked | Ending::HandedOver => ExitCode::SUCCESS,
        }
    }

    fn front_door(&self) -> Doorway {
        let (proxy, downstream) = (Arc::clone(&self.proxy), Arc::clone(&self.parts.downstream));
        let levers = Arc::clone(&self.levers);
        let app = move || App::new(Arc::clone(&proxy), Arc::clone(&downstream), levers.drain.subscribe());
        self.doorway(("proxy", None), Until::Stop, self.settings.listen.clone(), app)
    }

    fn operators_door(&self, control: Arc<Control>) -> Doorway {
        let router = TowerToHyperService::new(admin::router(self.parts.admin(control)));
        let admin = Arc::new(Admin { router });
        let rules = Rules::of_admin(&self.settings);
        let tls = self.parts.operators_tls.lock().take();
        let downstream = Arc::new(Downstream::new(rules, tls, Arc::clone(&self.parts.metrics)));
        let levers = Arc::clone(&self.levers);
        let drain = move || levers.operators_drain.subscribe();
        let app = move || App::new(Arc::clone(&admin), Arc::clone(&downstream), drain());
        self.doorway(("admin", Some(1)), Until::End, vec![Listen::Tcp(self.settings.admin.listen)], app)
    }

    /// Where other proxies ask whether a request may pass.
    fn proxies_door(&self) -> Doorway {
        let (proxy, parts) = (Arc::clone(&self.proxy), Arc::clone(&self.parts));
        let authz = Arc::new(Authz {
            way: Box::new(move || proxy.way.load_full()),
            terms: Box::new(move || {
                let settings = parts.settings.load();
                let Asked { enforces, requests_per_minute: per_minute, .. } = settings.authz;
                Terms { enforces, per_minute }
            }),
            metrics: Arc::clone(&self.parts.metrics),
        });
        let rules = Rules::of_proxies(&self.settings);
        let downstream = Arc::new(Downstream::new(rules, None, Arc::clone(&self.parts.metrics)));
        let levers = Arc::clone(&self.levers);
        let app = move || App::new(Arc::clone(&authz), Arc::clone(&downstream), levers.drain.subscribe());
        self.doorway(("authz", Some(1)), Until::Stop, self.settings.authz.listen.clone(), app)
    }

    fn bouncers_door(&self, serve: &LapiServer) -> anyhow::Result<Doorway> {
        let router = TowerToHyperService::new(self.parts.lapi.router());
        let bouncers = Arc::new(Admin { router });
        let tls = serve.tls.as_ref().map(TlsHandle::new).transpose()?;
        let rules = Rules::of_admin(&self.settings);
        let downstream = Arc::new(Downstream::new(rules, tls, Arc::clone(&self.parts.metrics)));
        let levers = Arc::clone(&self.levers);
        let app = move || App::new(Arc::clone(&bouncers), Arc::clone(&downstream), levers.drain.subscribe());
        Ok(self.doorway(("crowdsec", Some(1)), Until::Stop, vec![Listen::Tcp(serve.listen)], app))
    }

    fn doorway<H: Handler>(
        &self,
        (name, threads): (&'static str, Option<usize>),
        until: Until,
        listen: Vec<Listen>,
        app: impl Fn() -> App<H> + Send + Sync + 'static,
    ) -> Doorway {
        let sockets = (&self.sockets, listen.as_slice());
        Doorway::new((name, threads), sockets, (&self.levers, until), move |listener| {
            Box::pin(listener.serve(Arc::new(app())))
        })
    }
}
