//! What this machine needs at least: the same round trips and the same write, with nothing around.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use edge_secrets_tests::client::{Client, Credentials};
use edge_secrets_tests::reader::stamped;
use edge_secrets_tests::{DEADLINE, agent};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::rotation::watch;
use crate::samples::Samples;
use crate::scene::{LEN, Scene};

#[derive(Default)]
pub(crate) struct Floor {
    pub(crate) round_trips: Samples,
    pub(crate) swap: Samples,
    pub(crate) both: Samples,
    pub(crate) disk: Samples,
    pub(crate) append: Samples,
}

pub(crate) fn measure(scene: &Scene, rounds: u64) -> Floor {
    let mut floor = Floor::default();
    let issued = Issued::new();
    let port = serve(&issued);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let client = Client::connect_on(
        runtime.expect("a runtime"),
        port,
        Some(&issued.ca),
        Some(&issued.client),
    );
    let mut client = client.expect("a connection");
    let dir = tempfile::tempdir_in(agent::TMPFS).expect("a place on tmpfs");
    write_and_swap(dir.path(), 0);
    symlink("..data/a", dir.path().join("a")).expect("a link");
    let seen = watch(dir.path(), "a");
    for change in 1..=rounds + WARM_UP {
        let start = Instant::now();
        for _ in 0..2 {
            assert_eq!(client.get("/").expect("an answer").body.len(), LEN);
        }
        let arrived = Instant::now();
        write_and_swap(dir.path(), change);
        let (_, readable) = seen.recv_timeout(DEADLINE).expect("seen");
        fs::remove_dir_all(dir.path().join(format!("..g{}", change - 1))).expect("removed");
        if change > WARM_UP {
            floor.round_trips.add(arrived - start);
            floor.swap.add(readable - arrived);
            floor.both.add(readable - start);
        }
    }
    for append in [false, true] {
        let mut file = File::create(scene.hub.place().join("floor")).expect("a file");
        for _ in 0..rounds.min(500) {
            let start = Instant::now();
            if !append {
                file.rewind().expect("a file");
            }
            file.write_all(&[7; 4096]).expect("written");
            if append {
                // As a write-ahead log grows: the file's length is part of what must be durable.
                file.sync_all().expect("durable");
                floor.append.add(start.elapsed());
            } else {
                file.sync_data().expect("durable");
                floor.disk.add(start.elapsed());
            }
        }
    }
    floor
}

/// A new generation with one file, swapped in by one rename.
fn write_and_swap(dir: &Path, change: u64) {
    let generation = format!("..g{change}");
    fs::create_dir(dir.join(&generation)).expect("a directory");
    fs::write(dir.join(&generation).join("a"), stamped(change, LEN)).expect("written");
    let next = dir.join("..next");
    symlink(&generation, &next).expect("a link");
    fs::rename(next, dir.join("..data")).expect("swapped");
}

/// A CA, and what it issued.
struct Issued {
    ca: String,
    server: Credentials,
    client: Credentials,
}

impl Issued {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        let ca = ca.expect("a CA");
        let issue = || {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a name");
            let certificate = params.signed_by(&key, &ca).expect("a certificate");
            Credentials {
                chain: certificate.pem(),
                key: key.serialize_pem(),
            }
        };
        Self {
            server: issue(),
            client: issue(),
            ca: ca.pem(),
        }
    }
}

/// A server on a thread of its own that answers everything with 1 KiB.
fn serve(issued: &Issued) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(issued.ca.as_bytes()).expect("a certificate");
    roots.add(ca).expect("a root");
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let certificate = CertificateDer::from_pem_slice(issued.server.chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.server.key.as_bytes());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(clients.build().expect("a verifier"))
        .with_single_cert(
            vec![certificate.expect("a certificate")],
            key.expect("a key"),
        )
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("a port");
            sender
                .send(listener.local_addr().expect("an address").port())
                .expect("told");
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            let stream = TokioIo::new(acceptor.accept(stream).await.expect("a handshake"));
            let answer = service_fn(|_: Request<Incoming>| async {
                Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from_static(&[b'x'; LEN]))))
            });
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, answer)
                .await
                .ok();
        });
    });
    receiver.recv().expect("a port")
}

const WARM_UP: u64 = 10;
