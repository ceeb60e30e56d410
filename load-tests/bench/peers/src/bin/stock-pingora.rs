//! pingora-proxy with nothing on top: one thread, its defaults, one upstream.
//!
//! `stock-pingora LISTEN UPSTREAM`, both as ADDRESS:PORT.

use std::net::SocketAddr;

use anyhow::Context;
use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Plain {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Plain {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _context: &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().context("LISTEN is missing")?;
    let upstream = arguments.next().context("UPSTREAM is missing")?.parse()?;
    let settings = ServerConf { threads: 1, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Plain { upstream });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever()
}
