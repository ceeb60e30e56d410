//! Listening sockets: bound here, so that a taken address is an error at the start, or taken over from the process
//! before, and kept to be handed to the next.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, ensure};
use checkgate_config::settings::Listen;
use parking_lot::Mutex;
use socket2::SockRef;

use crate::transport::listener::Listener;

/// Who may connect to a unix socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;
/// Connections that wait to be accepted, as far as the system allows as many.
const WAITING_MAX: i32 = 65_535;

/// A listening socket by its name.
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

    /// Further handles to the sockets of `listen`, to accept on in the runtime at hand.
    ///
    /// # Errors
    /// Where there are no descriptors left.
    pub fn listeners(&self, listen: &[Listen]) -> io::Result<Vec<Listener>> {
        let held = self.held.lock();
        let wanted = held.iter().filter_map(|named| {
            let listen = listen.iter().find(|listen| name(listen) == named.name)?;
            Some(named.socket.try_clone().and_then(|socket| listener(listen, socket)))
        });
        wanted.collect()
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

fn listener(listen: &Listen, socket: OwnedFd) -> io::Result<Listener> {
    match listen {
        Listen::Tcp(_) => TcpListener::from(socket).try_into(),
        Listen::Unix(_) => UnixListener::from(socket).try_into(),
    }
}

/// The name of a listener.
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
            SockRef::from(&listener).listen(WAITING_MAX)?;
            let listen = Listen::Tcp(listener.local_addr()?);
            Ok((Named { name: name(&listen), socket: listener.into() }, listen))
        }
        Listen::Unix(path) => {
            let listener = bind_path(path).with_context(|| format!("{} cannot be used", path.display()))?;
            fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
            SockRef::from(&listener).listen(WAITING_MAX)?;
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
