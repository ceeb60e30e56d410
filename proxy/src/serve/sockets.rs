//! Listening sockets: bound here, so that a taken address is an error at the start, or taken over from the process
//! before, and kept to be handed to the next.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use checkgate_config::settings::Listen;
use parking_lot::Mutex;
use pingora_core::server::{Fds, ListenFds};

/// A listening socket under the name that pingora finds it by.
#[derive(Debug)]
pub struct Named {
    /// Its address or path.
    pub name: String,
    /// The socket itself.
    pub socket: OwnedFd,
}

/// Every listening socket of the process.
#[derive(Debug, Default)]
pub struct Sockets {
    held: Mutex<Vec<Named>>,
}

impl Sockets {
    /// The sockets that `listen` asks for: those among `inherited` that fit, and newly bound ones for the rest. Gives
    /// the listeners with their ports as well. What nobody asks for is closed.
    ///
    /// # Errors
    /// Where an address or a path cannot be used.
    pub fn open(listen: &[Listen], mut inherited: Vec<Named>) -> anyhow::Result<(Self, Vec<Listen>)> {
        let (mut held, mut opened) = (Vec::new(), Vec::new());
        for listen in listen {
            let (named, listen) = match taken(listen, &mut inherited) {
                Some(taken) => taken,
                None => bind(listen)?,
            };
            held.push(named);
            opened.push(listen);
        }
        Ok((Self { held: Mutex::new(held) }, opened))
    }

    /// Further handles to the sockets of `listen`, in the form in which pingora takes them: it owns and closes those
    /// that its services ask for, so there must be no others among them.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn table(&self, listen: &[Listen]) -> io::Result<ListenFds> {
        let wanted: Vec<_> = listen.iter().map(name).collect();
        let mut table = Fds::new();
        for named in self.held.lock().iter().filter(|named| wanted.contains(&named.name)) {
            table.add(named.name.clone(), named.socket.try_clone()?.into_raw_fd());
        }
        Ok(Arc::new(Mutex::new(table)))
    }

    /// Further handles to all sockets, to hand over.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn copies(&self) -> io::Result<Vec<Named>> {
        let copy = |named: &Named| Ok(Named { name: named.name.clone(), socket: named.socket.try_clone()? });
        self.held.lock().iter().map(copy).collect()
    }

    /// Lets go of every socket: once nobody accepts on it, the kernel refuses connections.
    pub fn close(&self) {
        self.held.lock().clear();
    }
}

/// The name of a listener in pingora's table.
fn name(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => address.to_string(),
        Listen::Unix(path) => path.display().to_string(),
    }
}

/// The inherited socket for `listen`; any port of the address where `listen` asks for any.
fn taken(listen: &Listen, inherited: &mut Vec<Named>) -> Option<(Named, Listen)> {
    let wanted = name(listen);
    let any_port_of = match listen {
        Listen::Tcp(address) if address.port() == 0 => Some(address.ip()),
        _ => None,
    };
    let fits = |named: &Named| named.name == wanted || (any_port_of.is_some() && ip(named) == any_port_of);
    let named = inherited.swap_remove(inherited.iter().position(fits)?);
    let listen = named.name.parse().map_or_else(|_| listen.clone(), Listen::Tcp);
    Some((named, listen))
}

fn ip(named: &Named) -> Option<IpAddr> {
    named.name.parse::<SocketAddr>().ok().map(|address| address.ip())
}

fn bind(listen: &Listen) -> anyhow::Result<(Named, Listen)> {
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).with_context(|| {
                format!("{address} cannot be used; choose another with --listen or --admin")
            })?;
            listener.set_nonblocking(true)?;
            let listen = Listen::Tcp(listener.local_addr()?);
            Ok((Named { name: name(&listen), socket: listener.into() }, listen))
        }
        Listen::Unix(path) => {
            let listener = bind_path(path).with_context(|| format!("{} cannot be used", path.display()))?;
            listener.set_nonblocking(true)?;
            Ok((Named { name: name(listen), socket: listener.into() }, listen.clone()))
        }
    }
}

/// A socket that a run before left behind is no hindrance; one that somebody answers at is.
fn bind_path(path: &Path) -> anyhow::Result<UnixListener> {
    ensure!(UnixStream::connect(path).is_err(), "another process listens there");
    replace_path(path)
}

/// A socket at `path`, whoever listens there.
pub fn replace_path(path: &Path) -> anyhow::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Ok(UnixListener::bind(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> Listen {
        Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn an_inherited_socket_is_taken_by_its_address_and_the_rest_is_bound() {
        let (first, opened) = Sockets::open(&[loopback(0)], Vec::new()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Listen::Unix(folder.path().join("socket"));
        let wanted = [opened[0].clone(), path.clone()];
        let (second, again) = Sockets::open(&wanted, first.copies().unwrap()).unwrap();
        assert_eq!(again, wanted, "the same address, though it is in use");
        assert!(Sockets::open(&wanted, Vec::new()).is_err(), "nobody else can bind it");
        first.close();
        second.close();
        assert!(Sockets::open(&wanted, Vec::new()).is_ok(), "it is free once all let go");
    }

    #[test]
    fn any_port_means_the_inherited_one() {
        let (first, opened) = Sockets::open(&[loopback(0)], Vec::new()).unwrap();
        let (_second, again) = Sockets::open(&[loopback(0)], first.copies().unwrap()).unwrap();
        assert_eq!(again, opened);
    }
}
