//! A node with a server, and the service manager's part: clients and a descriptor store.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, shutdown, socket,
};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::super::*;
use crate::consumers::profile::{Credentials, Profile, Shape};

/// systemd's limits.
pub(super) struct Limit;

impl Limit {
    pub(super) const SYSTEMD: usize = 1024 * 1024;
}

/// What becomes of a unit that asks.
#[derive(PartialEq, Eq)]
pub(super) enum Outcome {
    /// It starts with this credential.
    Value(Vec<u8>),
    /// It does not start.
    Fails,
}

pub(super) fn profile(unit: &str) -> Profile {
    Profile {
        service: "myorg/uplink".parse().unwrap(),
        consumer: Some("main".parse().unwrap()),
        file: "/etc/edge-secrets/services.d/uplink.yaml".into(),
        shape: Shape::default(),
        on_change: None,
        lifecycle: None,
        credentials: Some(Credentials {
            units: vec![unit.parse().unwrap()],
            ids: BTreeMap::new(),
            wait: Duration::from_secs(60),
        }),
        secrets_api: None,
    }
}

pub(super) fn cred(mut profile: Profile, change: impl FnOnce(&mut Credentials)) -> Profile {
    change(profile.credentials.as_mut().unwrap());
    profile
}

/// A running server and all around it.
pub(super) struct Node {
    pub(super) dir: tempfile::TempDir,
    pub(super) keeper: Store,
    pub(super) asked: mpsc::UnboundedReceiver<ConsumerId>,
    pub(super) ending: watch::Sender<Ending>,
    tell: mpsc::UnboundedSender<ConsumerId>,
    shelf: watch::Sender<Arc<Shelf>>,
    listener: UnixListener,
    server: Option<JoinHandle<()>>,
    generations: AtomicU64,
}

impl Node {
    pub(super) fn new(profiles: Vec<Profile>) -> Self {
        Self::with(profiles, |server| server)
    }

    pub(super) fn with(
        profiles: Vec<Profile>,
        change: impl FnOnce(CredentialServer<Store>) -> CredentialServer<Store>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = super::super::bind(&dir.path().join("credentials.sock")).unwrap();
        let shelf = Shelf {
            profiles: Arc::new(Profiles::of_these(profiles)),
            consumers: BTreeMap::new(),
        };
        let (tell, asked) = mpsc::unbounded_channel();
        let mut node = Self {
            dir,
            keeper: Store::new(true),
            asked,
            ending: watch::Sender::new(Ending::Running),
            tell,
            shelf: watch::Sender::new(Arc::new(shelf)),
            listener,
            server: None,
            generations: AtomicU64::new(0),
        };
        node.start(change);
        node
    }

    /// A server, with what the store holds. The socket is handed over, as in socket activation.
    pub(super) fn start(
        &mut self,
        change: impl FnOnce(CredentialServer<Store>) -> CredentialServer<Store>,
    ) {
        self.ending.send_replace(Ending::Running);
        let server = change(self.server());
        self.server = Some(tokio::spawn(server.serve(self.ending.subscribe())));
    }

    /// A server that nobody runs.
    pub(super) fn server(&self) -> CredentialServer<Store> {
        let server = CredentialServer::new(
            self.listener.try_clone().unwrap(),
            self.keeper.all(),
            self.shelf.subscribe(),
            self.keeper.clone(),
            self.tell.clone(),
        );
        server.unwrap()
    }

    /// Whether a connection stands in the socket's queue.
    pub(super) fn queued(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    /// Ends the server in order.
    pub(super) async fn end(&mut self, ending: Ending) {
        self.ending.send_replace(ending);
        self.server.take().unwrap().await.unwrap();
    }

    /// Ends the server as a kill does: every descriptor of its own is closed, wherever it was.
    pub(super) async fn kill(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
    }

    pub(super) fn consumer(&self, name: &str) -> ConsumerId {
        ConsumerId {
            service: "myorg/uplink".parse().unwrap(),
            consumer: name.parse().unwrap(),
        }
    }

    pub(super) fn generation(&self, consumer: &str) -> PathBuf {
        let consumer = self.consumer(consumer);
        self.shelf.borrow().consumers[&consumer].generation.clone()
    }

    pub(super) fn publish(&self, change: impl FnOnce(&mut Shelf)) {
        self.shelf.send_modify(|shelf| change(Arc::make_mut(shelf)));
    }

    /// The next generation of the consumer `main`.
    pub(super) fn deliver(&self, files: &[(&str, &[u8])]) {
        self.deliver_to("main", files);
    }

    pub(super) fn deliver_to(&self, consumer: &str, files: &[(&str, &[u8])]) {
        let number = self.generations.fetch_add(1, Ordering::Relaxed);
        let generation = self.dir.path().join(format!("..g{number}"));
        fs::create_dir(&generation).unwrap();
        for (name, value) in files {
            let path = generation.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, value).unwrap();
            // Long ago, so that a later change shows however coarse the kernel's clock is.
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let files = files.iter().map(|(name, _)| name.parse().unwrap());
        let shelved = Shelved {
            generation,
            files: files.collect(),
        };
        self.publish(|shelf| {
            shelf.consumers.insert(self.consumer(consumer), shelved);
        });
    }

    /// A unit that starts and asks for a credential.
    pub(super) fn ask(&self, unit: &str, credential: &str) -> Client {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let random = u64::from_ne_bytes(random);
        self.connect(Some(
            format!("{random:x}/unit/{unit}/{credential}").as_bytes(),
        ))
    }

    pub(super) fn connect(&self, address: Option<&[u8]>) -> Client {
        let address = address.map(|name| UnixAddr::new_abstract(name).unwrap());
        self.connect_from(address)
    }

    pub(super) fn connect_from_path(&self, path: &Path) -> Client {
        self.connect_from(Some(UnixAddr::new(path).unwrap()))
    }

    fn connect_from(&self, address: Option<UnixAddr>) -> Client {
        let fd = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        if let Some(address) = address {
            bind(fd.as_raw_fd(), &address).unwrap();
        }
        let server = UnixAddr::new(&self.dir.path().join("credentials.sock")).unwrap();
        connect(fd.as_raw_fd(), &server).unwrap();
        shutdown(fd.as_raw_fd(), Shutdown::Write).unwrap();
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(true).unwrap();
        Client {
            stream: tokio::net::UnixStream::from_std(stream).unwrap(),
        }
    }
}

/// systemd, as it sets a unit's credential up.
pub(super) struct Client {
    stream: tokio::net::UnixStream,
}

impl Client {
    /// Returns when there is a first byte, or the end; takes nothing.
    pub(super) async fn readable(&self) {
        let mut one = [0; 1];
        let peek = |stream: &tokio::net::UnixStream| {
            let flags = nix::sys::socket::MsgFlags::MSG_PEEK;
            nix::sys::socket::recv(stream.as_raw_fd(), &mut one, flags).map_err(io::Error::from)
        };
        let mut peek = peek;
        self.stream
            .async_io(tokio::io::Interest::READABLE, || peek(&self.stream))
            .await
            .unwrap();
    }

    /// Reads to the end, as systemd does: more than the limit and an error fail the unit.
    pub(super) async fn read(self) -> Outcome {
        let mut value = Vec::new();
        let limit = u64::try_from(Limit::SYSTEMD + 1).unwrap();
        match self.stream.take(limit).read_to_end(&mut value).await {
            Ok(length) if length <= Limit::SYSTEMD => Outcome::Value(value),
            _ => Outcome::Fails,
        }
    }
}

/// The service manager's descriptor store: it takes no connection twice, as systemd's does not, and
/// forgets what is closed.
#[derive(Clone)]
pub(super) struct Store {
    held: Arc<Mutex<Held>>,
    keeps: bool,
}

struct Held {
    fds: BTreeMap<String, (RawId, OwnedFd)>,
    stored: mpsc::UnboundedSender<String>,
    events: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>>,
    count: watch::Sender<usize>,
}

/// A socket's inode.
type RawId = u64;

impl Store {
    pub(super) fn new(keeps: bool) -> Self {
        let (stored, events) = mpsc::unbounded_channel();
        Self {
            held: Arc::new(Mutex::new(Held {
                fds: BTreeMap::new(),
                stored,
                events: Arc::new(tokio::sync::Mutex::new(events)),
                count: watch::Sender::new(0),
            })),
            keeps,
        }
    }

    /// Returns when something more has been stored under a name that begins so.
    pub(super) async fn stored(&self, prefix: &str) -> String {
        let events = self.held.lock().unwrap().events.clone();
        let mut events = events.lock().await;
        loop {
            let name = events.recv().await.unwrap();
            if name.starts_with(prefix) {
                return name;
            }
        }
    }

    /// Returns when nothing is in the store.
    pub(super) async fn emptied(&self) {
        let mut count = self.held.lock().unwrap().count.subscribe();
        count.wait_for(|count| *count == 0).await.unwrap();
    }

    /// What a new life gets.
    pub(super) fn all(&self) -> Vec<(String, OwnedFd)> {
        let held = self.held.lock().unwrap();
        let copy =
            |(name, (_, fd)): (&String, &(RawId, OwnedFd))| (name.clone(), fd.try_clone().unwrap());
        held.fds.iter().map(copy).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.held.lock().unwrap().fds.keys().cloned().collect()
    }
}

impl Keeper for Store {
    fn keeps(&self) -> bool {
        self.keeps
    }

    fn store(&self, name: &str, fd: BorrowedFd<'_>) {
        let id = nix::sys::stat::fstat(fd.as_fd()).unwrap().st_ino;
        let mut held = self.held.lock().unwrap();
        if held.fds.values().any(|(known, _)| *known == id) {
            return;
        }
        let copy = fd.try_clone_to_owned().unwrap();
        held.fds.insert(name.to_owned(), (id, copy));
        held.count.send_replace(held.fds.len());
        held.stored.send(name.to_owned()).unwrap();
    }

    fn unstore(&self, name: &str) {
        let mut held = self.held.lock().unwrap();
        held.fds.remove(name);
        held.count.send_replace(held.fds.len());
    }
}
