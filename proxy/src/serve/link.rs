//! The line between two processes during a hand-over: messages and listening sockets over a unix socket.
//!
//! ```text
//! frame = length:u64 little-endian, message as postcard
//! ```
//! The sockets follow their message as ancillary data (SCM_RIGHTS, unix(7)) of one byte.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::sockets::Named;
use crate::clock::Reading;
use crate::gate::SavedGate;
use crate::lane::desk::SavedEngine;

/// The version of what is said; two processes hand over only if theirs are the same.
pub const VERSION: u16 = 4;
/// Sockets at most: the kernel passes no more in one message (SCM_MAX_FD), and nobody listens on so many.
const SOCKETS_MAX: usize = 64;
/// Bytes of a message at most. A larger length is damage, not data.
const MESSAGE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How long the other side may take to read what is written.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The old process: who it is. Its listening sockets follow, under these names.
    Hello {
        /// Of this protocol.
        version: u16,
        /// Names of the sockets, in their order.
        sockets: Vec<String>,
        /// Its clock, by which both go from here on.
        clock: Reading,
    },
    /// The old process: what is in force now.
    InForce(SavedGate),
    /// The new process: connections are accepted.
    Serving,
    /// The old process: it decides no more; this is what is in force and what is remembered.
    Ownership {
        /// What is in force.
        gate: SavedGate,
        /// What is remembered of each model.
        engines: Vec<SavedEngine>,
    },
    /// The new process: it decides now.
    Taken,
    /// The old process: there is no hand-over, it goes on.
    Refused(String),
}

/// Why the line does not work.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other process is gone.
    #[error("the other process is gone")]
    Gone,
    /// Nothing was heard in time, or the line broke.
    #[error("the line to the other process: {0}")]
    Io(io::Error),
    /// What came is no message.
    #[error("what came from the other process is no message of a hand-over")]
    Garbled,
    /// Sockets could not be passed.
    #[error("listening sockets could not be passed: {0}")]
    Sockets(rustix::io::Errno),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Gone
            }
            _ => Self::Io(error),
        }
    }
}

/// One end of the line.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
}

impl Link {
    /// Calls the process that listens at `path`.
    ///
    /// # Errors
    /// Nobody does.
    pub fn connect(path: &Path) -> Result<Self, LinkError> {
        Self::over(UnixStream::connect(path)?)
    }

    /// The line over a connected stream.
    ///
    /// # Errors
    /// The stream is broken already.
    pub fn over(stream: UnixStream) -> Result<Self, LinkError> {
        stream.set_write_timeout(Some(WRITE_MAX))?;
        Ok(Self { stream })
    }

    /// Says something.
    ///
    /// # Errors
    /// The other process is gone or does not read.
    pub fn send(&mut self, message: &Message) -> Result<(), LinkError> {
        let bytes = postcard::to_stdvec(message).map_err(|_| LinkError::Garbled)?;
        self.stream.write_all(&(bytes.len() as u64).to_le_bytes())?;
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Hears what is said next, within `patience`.
    ///
    /// # Errors
    /// Nothing is, or no message of ours.
    pub fn receive(&mut self, patience: Duration) -> Result<Message, LinkError> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut length = [0; 8];
        self.stream.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MESSAGE_BYTES_MAX {
            return Err(LinkError::Garbled);
        }
        let mut bytes = Vec::new();
        (&self.stream).take(length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(LinkError::Gone);
        }
        postcard::from_bytes(&bytes).map_err(|_| LinkError::Garbled)
    }

    /// Passes listening sockets, in their order.
    ///
    /// # Errors
    /// The other process is gone, or there are too many.
    pub fn send_sockets(&mut self, sockets: &[Named]) -> Result<(), LinkError> {
        let sockets: Vec<_> = sockets.iter().map(|named| named.socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(LinkError::Sockets(rustix::io::Errno::TOOMANYREFS));
        }
        let sent = sendmsg(&self.stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL);
        sent.map(drop).map_err(LinkError::Sockets)
    }

    /// Takes listening sockets, in their order.
    ///
    /// # Errors
    /// None come.
    pub fn receive_sockets(&mut self) -> Result<Vec<OwnedFd>, LinkError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&self.stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
            .map_err(LinkError::Sockets)?;
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        Ok(rights.flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Link, Link) {
        let (one, other) = UnixStream::pair().unwrap();
        (Link::over(one).unwrap(), Link::over(other).unwrap())
    }

    #[test]
    fn sockets_and_messages_arrive_in_their_order() {
        let (mut old, mut new) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let named = [Named { name: address.to_string(), socket: listener.into() }];
        let (sockets, clock) = (vec![named[0].name.clone()], Reading::default());
        old.send(&Message::Hello { version: VERSION, sockets, clock }).unwrap();
        old.send_sockets(&named).unwrap();
        old.send(&Message::Refused("no".into())).unwrap();
        let patience = Duration::from_secs(10);
        assert!(matches!(new.receive(patience).unwrap(), Message::Hello { version: VERSION, .. }));
        let taken: Vec<_> = new.receive_sockets().unwrap().into_iter().map(TcpListener::from).collect();
        let addresses: Vec<_> = taken.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!(addresses, [address]);
        assert!(matches!(new.receive(patience).unwrap(), Message::Refused(reason) if reason == "no"));
    }

    #[test]
    fn a_process_that_is_gone_is_told_from_one_that_is_slow() {
        let (old, mut new) = pair();
        assert!(matches!(new.receive(Duration::from_millis(1)), Err(LinkError::Io(_))), "it says nothing");
        drop(old);
        assert!(matches!(new.receive(Duration::from_secs(10)), Err(LinkError::Gone)));
        let (mut old, mut new) = pair();
        old.stream.write_all(&[9, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
        drop(old);
        assert!(matches!(new.receive(Duration::from_secs(10)), Err(LinkError::Gone)), "in mid-message");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let (mut old, mut new) = pair();
        old.stream.write_all(&u64::MAX.to_le_bytes()).unwrap();
        assert!(matches!(new.receive(Duration::from_secs(10)), Err(LinkError::Garbled)));
    }
}
