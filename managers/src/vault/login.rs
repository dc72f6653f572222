//! How the hub gets its token.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use edge_secrets_protocol::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{Ask, Wire};
use super::config::{AppRole, Auth, Cert, SecretId, VaultConfig};
use super::refusal;
use super::session::Memory;
use crate::credential::CredentialFile;
use crate::http::Reply;
use crate::payload::SecretText;
use crate::route::at;
use crate::{Fault, ManagerError};

/// A way to a token.
pub(super) struct Login {
    auth: Auth,
    identity: String,
    namespace: String,
}

/// A token.
pub(super) enum Granted {
    /// Made for the hub, and kept by it.
    Made(Secret),
    /// Given to it: the file is where it is.
    Given(Secret),
}

impl Login {
    pub(super) fn new(config: &VaultConfig) -> Self {
        let namespace = config.namespace.as_ref().map_or("", |name| name.as_str());
        let how = match &config.auth {
            Auth::AppRole(role) => format!("approle {} {}", role.mount.as_str(), role.role_id),
            Auth::Cert(cert) => format!("cert {} {:?}", cert.mount.as_str(), cert.role),
            Auth::Token(file) => format!("token {file}"),
        };
        let whole = format!("{}\n{namespace}\n{how}", config.address);
        Self {
            auth: config.auth.clone(),
            identity: HEXLOWER.encode(digest(&SHA256, whole.as_bytes()).as_ref()),
            namespace: namespace.to_owned(),
        }
    }

    /// What tells this login from another one's.
    pub(super) fn identity(&self) -> String {
        self.identity.clone()
    }

    /// Whether another token can be had without a person.
    pub(super) fn can_repeat(&self) -> bool {
        !matches!(self.auth, Auth::Token(_))
    }

    /// What a token that Vault does not know means.
    pub(super) fn unknown_token(&self) -> String {
        match &self.auth {
            Auth::Token(file) => format!(
                "the token in {file} is not known there, has ended, or may not look itself up: put \
                 a new one into that file"
            ),
            Auth::AppRole(_) | Auth::Cert(_) => {
                "the token of its login may not look itself up: its role needs the policy \
                 `default`, or `read` on auth/token/lookup-self"
                    .into()
            }
        }
    }

    pub(super) async fn run(
        &self,
        wire: &Wire,
        memory: &mut Memory,
    ) -> Result<Granted, ManagerError> {
        match &self.auth {
            Auth::Token(file) => read(file).map(Granted::Given),
            Auth::AppRole(role) => self.approle(role, wire, memory).await.map(Granted::Made),
            Auth::Cert(cert) => certificate(cert, wire).await.map(Granted::Made),
        }
    }

    async fn approle(
        &self,
        role: &AppRole,
        wire: &Wire,
        memory: &mut Memory,
    ) -> Result<Secret, ManagerError> {
        #[derive(Serialize)]
        struct Body<'a> {
            role_id: &'a str,
            secret_id: &'a str,
        }
        let role_id = read(&role.role_id)?;
        let secret_id = match &role.secret_id {
            SecretId::Plain(file) => read(file)?,
            SecretId::Wrapped(file) => self.unwrapped(role, file, wire, memory).await?,
        };
        let body = Body {
            role_id: text(&role_id)?,
            secret_id: text(&secret_id)?,
        };
        let route = at("/v1/auth/{*mount}/login", &[role.mount.as_str()]);
        let reply = wire.ask(&Ask::post(route, &body)?, None).await?;
        token(&reply, "the login by AppRole")
    }

    /// The secret id that a wrapping token stands for. Vault gives it once; from then on it is kept.
    async fn unwrapped(
        &self,
        role: &AppRole,
        file: &CredentialFile,
        wire: &Wire,
        memory: &mut Memory,
    ) -> Result<Secret, ManagerError> {
        let wrapping = match read(file) {
            Ok(wrapping) => wrapping,
            // Nobody needs to leave a used token there.
            Err(error) => return memory.secret_id().await?.ok_or(error),
        };
        if memory.is_from(&wrapping).await?
            && let Some(kept) = memory.secret_id().await?
        {
            return Ok(kept);
        }
        let body = json!({"token": text(&wrapping)?});
        let ask = Ask::post(at("/v1/sys/wrapping/lookup", &[]), &body)?;
        let looked = wire.ask(&ask, None).await?;
        let origin: Unwrapped<Origin> = unwrap_answer(&looked, file)?;
        let path = origin.data.creation_path;
        let path = path.strip_prefix(&self.namespace).unwrap_or(&path);
        let wanted = format!("auth/{}/role/", role.mount.as_str());
        let path = path.trim_start_matches('/');
        if !(path.starts_with(&wanted) && path.ends_with("/secret-id")) {
            return Err(ManagerError::new(
                Fault::Unauthenticated,
                format!(
                    "{file} wraps something other than a secret id of auth/{}: it was not \
                     unwrapped; somebody may have exchanged it",
                    role.mount.as_str()
                ),
            ));
        }
        let ask = Ask::post(at("/v1/sys/wrapping/unwrap", &[]), &json!({}))?;
        let reply = wire.ask(&ask, Some(&wrapping)).await?;
        let unwrapped: Unwrapped<Issued> = unwrap_answer(&reply, file)?;
        let secret_id = secret(&unwrapped.data.secret_id);
        memory.keep_secret_id(&secret_id, &wrapping).await?;
        Ok(secret_id)
    }
}

async fn certificate(cert: &Cert, wire: &Wire) -> Result<Secret, ManagerError> {
    let body = match &cert.role {
        Some(role) => json!({"name": role}),
        None => json!({}),
    };
    let route = at("/v1/auth/{*mount}/login", &[cert.mount.as_str()]);
    let reply = wire.ask(&Ask::post(route, &body)?, None).await?;
    token(&reply, "the login by certificate")
}

fn token(reply: &Reply, how: &str) -> Result<Secret, ManagerError> {
    if !reply.is_success() {
        return Err(refusal::of_login(reply, how));
    }
    let login: LoggedIn = reply.json()?;
    if login.auth.client_token.expose().is_empty() {
        return Err(ManagerError::new(
            Fault::Unauthenticated,
            format!("{how} wants a second factor, which the hub has not"),
        ));
    }
    Ok(secret(&login.auth.client_token))
}

fn unwrap_answer<'a, T: Deserialize<'a>>(
    reply: &'a Reply,
    file: &CredentialFile,
) -> Result<T, ManagerError> {
    match reply.status {
        // Vault cannot say which: the one who wrapped it can.
        400 | 403 | 404 => Err(ManagerError::new(
            Fault::Unauthenticated,
            format!(
                "ALARM: the wrapping token in {file} has ended, or was used before by somebody \
                 else: revoke the secret id behind it and issue another one"
            ),
        )),
        _ if reply.is_success() => reply.json(),
        _ => Err(refusal::of(reply)),
    }
}

fn read(file: &CredentialFile) -> Result<Secret, ManagerError> {
    file.read()
        .map_err(|why| ManagerError::new(Fault::Unauthenticated, why))
}

fn text(secret: &Secret) -> Result<&str, ManagerError> {
    std::str::from_utf8(secret.expose()).map_err(|_| {
        ManagerError::new(
            Fault::Unauthenticated,
            "the hub's credential for it is no text",
        )
    })
}

fn secret(text: &SecretText) -> Secret {
    Secret::new(text.expose().as_bytes().to_vec())
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: LoggedInAuth,
}

#[derive(Deserialize)]
struct LoggedInAuth {
    client_token: SecretText,
}

#[derive(Deserialize)]
struct Unwrapped<T> {
    data: T,
}

#[derive(Deserialize)]
struct Origin {
    creation_path: String,
}

#[derive(Deserialize)]
struct Issued {
    secret_id: SecretText,
}
