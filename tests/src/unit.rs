//! A unit that loads a credential, as the service manager does it for one: a connection from an
//! abstract address that names unit and credential (systemd.exec(5), `LoadCredential=`).

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};

/// What came of loading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// The credential.
    Value(Vec<u8>),
    /// More than the service manager takes: the unit fails.
    Refused,
}

/// Loads a credential in the background.
///
/// # Panics
/// When there is no socket at `path`.
pub fn load(path: &Path, unit: &str, credential: &str) -> JoinHandle<io::Result<Loaded>> {
    let stream = connected(path, unit, credential).expect("a connection");
    thread::spawn(move || read(stream))
}

fn connected(path: &Path, unit: &str, credential: &str) -> io::Result<UnixStream> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mark = u64::from_le_bytes(random);
    let name = format!("{mark:x}/unit/{unit}/{credential}");
    let fd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn read(mut stream: UnixStream) -> io::Result<Loaded> {
    let mut value = Vec::new();
    stream.by_ref().take(LIMIT + 1).read_to_end(&mut value)?;
    if value.len() as u64 > LIMIT {
        return Ok(Loaded::Refused);
    }
    Ok(Loaded::Value(value))
}

/// What all credentials of a unit may have together.
const LIMIT: u64 = 1024 * 1024;
