//! A service that asks its node for secrets, as a program does that has read its files once.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// What a service knows of its API after it has read `auth.json` and `cert.pem`.
#[derive(Debug, Clone)]
pub struct ApiClient {
    /// The socket.
    pub socket: PathBuf,
    /// What it is known by.
    pub id: String,
    /// What it proves that with.
    pub token: String,
    tls: Arc<ClientConfig>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body, as it came.
    pub body: String,
}

/// A request that was sent.
pub type Asked = StreamOwned<ClientConnection, UnixStream>;

impl ApiClient {
    /// Reads what lies in the directory.
    ///
    /// # Panics
    /// When it is not what it should be.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        let auth = fs::read(dir.join("auth.json")).expect("auth.json");
        let auth: Value = serde_json::from_slice(&auth).expect("JSON");
        let text = |key: &str| auth[key].as_str().expect(key).to_owned();
        let pem = fs::read(dir.join("cert.pem")).expect("cert.pem");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(&pem).expect("a certificate"))
            .expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            socket: dir.join("essapi.sock"),
            id: text("id"),
            token: text("token"),
            tls: Arc::new(tls),
        }
    }

    /// Sends a request; it is on its way when this returns.
    ///
    /// # Errors
    /// When nobody listens, or nobody with the right certificate.
    pub fn send(&self, method: &str, path: &str) -> io::Result<Asked> {
        let socket = UnixStream::connect(&self.socket)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(self.tls.clone(), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        let credential = BASE64.encode(format!("{}:{}", self.id, self.token).as_bytes());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {credential}\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        Ok(stream)
    }

    /// Asks, and takes the answer.
    ///
    /// # Errors
    /// When there is none.
    pub fn call(&self, method: &str, path: &str) -> io::Result<Told> {
        answer(self.send(method, path)?)
    }

    /// Asks for what has changed: 200 and names, or 404.
    ///
    /// # Panics
    /// When there is no answer, or another one.
    #[must_use]
    pub fn updated(&self) -> Vec<String> {
        names(&self.call("GET", SECRETS).expect("an answer"))
    }

    /// Waits until something has changed.
    ///
    /// # Panics
    /// When nothing does.
    #[must_use]
    pub fn await_updated(&self) -> Vec<String> {
        let path = format!("{SECRETS}?wait=120");
        let told = self.call("GET", &path).expect("an answer");
        assert_eq!(told.status, 200, "{told:?}");
        names(&told)
    }

    /// Asks for a secret.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn secret(&self, name: &str) -> Told {
        let path = format!("{SECRETS}/{name}");
        self.call("GET", &path).expect("an answer")
    }

    /// Says that a secret was received, and gives the status.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn receive(&self, name: &str) -> u16 {
        let path = format!("{SECRETS}/{name}?received=true");
        self.call("POST", &path).expect("an answer").status
    }
}

/// Takes the answer to what was asked.
///
/// # Errors
/// When there is none.
pub fn answer(mut asked: Asked) -> io::Result<Told> {
    let mut text = String::new();
    asked.read_to_string(&mut text)?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Told {
        status: status.ok_or(io::ErrorKind::InvalidData)?,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

fn names(told: &Told) -> Vec<String> {
    match told.status {
        404 => Vec::new(),
        200 => serde_json::from_str(&told.body).expect("a list of names"),
        _ => panic!("{told:?}"),
    }
}

/// The path of the API.
pub const SECRETS: &str = "/api/v1/secrets";
