//! The proxies that the vectors are aimed at: checkgate, and those that people would use in its place.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::checkgate::{Checkgate, PATIENCE, Start, free_address};

const NGINX: &str = "/usr/sbin/nginx";
const HAPROXY: &str = "/usr/sbin/haproxy";

/// A proxy in front of one upstream; dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    /// For the table.
    pub name: String,
    /// Where it speaks HTTP/1.1.
    pub http1: SocketAddr,
    /// Where it speaks HTTP/2 with prior knowledge.
    pub http2: SocketAddr,
    /// Whether it names its client in `X-Forwarded-For`; one that does not is shot at one by one.
    pub names_clients: bool,
    process: Process,
}

/// What keeps a proxy running.
#[derive(Debug)]
enum Process {
    Checkgate(Checkgate),
    Other {
        child: Child,
        _scratch: TempDir,
    },
    /// Somebody else started it.
    Foreign,
}

impl Proxy {
    /// checkgate with its defaults.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn checkgate(upstream: SocketAddr) -> anyhow::Result<Self> {
        let running = Start::in_front_of(upstream).run().await?;
        let address = running.address;
        Ok(Self {
            name: "checkgate".into(),
            http1: address,
            http2: address,
            names_clients: true,
            process: Process::Checkgate(running),
        })
    }

    /// nginx as `apt-get install nginx` leaves it, with keep-alive towards the upstream.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn nginx(upstream: SocketAddr) -> anyhow::Result<Self> {
        let (http1, http2, scratch) = (free_address()?, free_address()?, TempDir::new()?);
        let folder = scratch.path().display();
        let config = format!(
            "daemon off; pid {folder}/pid; worker_processes 1; error_log {folder}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
             server {{ listen {http1}; listen {http2} http2; location / {{ proxy_pass http://{upstream};\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
             proxy_set_header X-Forwarded-For $remote_addr; }} }} }}\n"
        );
        let file = scratch.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new(NGINX);
        command.arg("-e").arg(scratch.path().join("error.log")).arg("-c").arg(&file);
        Self::started("nginx", http1, http2, &mut command, scratch).await
    }

    /// HAProxy with the time-outs that its manual asks for.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn haproxy(upstream: SocketAddr) -> anyhow::Result<Self> {
        let (http1, http2, scratch) = (free_address()?, free_address()?, TempDir::new()?);
        let config = format!(
            "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  \
             timeout server 30s\n  timeout http-request 10s\n  option forwardfor\nfrontend f\n  bind {http1}\n  \
             bind {http2} proto h2\n  default_backend b\nbackend b\n  server s {upstream}\n"
        );
        let file = scratch.path().join("haproxy.cfg");
        fs::write(&file, config)?;
        let mut command = Command::new(HAPROXY);
        command.arg("-db").arg("-f").arg(&file);
        Self::started("HAProxy", http1, http2, &mut command, scratch).await
    }

    /// A proxy that runs already.
    #[must_use]
    pub fn foreign(name: &str, address: SocketAddr, names_clients: bool) -> Self {
        let process = Process::Foreign;
        Self { name: name.to_owned(), http1: address, http2: address, names_clients, process }
    }

    /// Whether the programs for comparison are installed.
    #[must_use]
    pub fn others_installed() -> bool {
        Path::new(NGINX).is_file() && Path::new(HAPROXY).is_file()
    }

    /// The checkgate behind this address.
    #[must_use]
    pub fn as_checkgate(&self) -> Option<&Checkgate> {
        match &self.process {
            Process::Checkgate(running) => Some(running),
            Process::Other { .. } | Process::Foreign => None,
        }
    }

    async fn started(
        name: &str,
        http1: SocketAddr,
        http2: SocketAddr,
        command: &mut Command,
        scratch: TempDir,
    ) -> anyhow::Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = quiet.spawn().with_context(|| format!("{name} does not start"))?;
        let proxy = Self {
            name: name.into(),
            http1,
            http2,
            names_clients: true,
            process: Process::Other { child, _scratch: scratch },
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(http1).await.is_err() {
            ensure!(tokio::time::Instant::now() < deadline, "{name} does not listen on {http1}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(proxy)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Process::Other { child, .. } = &mut self.process {
            // nginx's worker ends with its master only where the master is asked, not killed.
            drop(Command::new("kill").arg("-TERM").arg(child.id().to_string()).status());
            drop(child.wait());
        }
    }
}
