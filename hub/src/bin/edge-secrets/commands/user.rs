//! `edge-secrets user …`

use std::path::Path;

use edge_secrets_hub::catalog::records::Role;
use edge_secrets_hub::wire::{NewUser, UserCertificate, UserInfo, paths};
use edge_secrets_protocol::UserId;
use http::Method;
use rcgen::{CertificateParams, DnType, KeyPair};
use zeroize::Zeroizing;

use super::Session;
use crate::cli::UserCommand;
use crate::client::at;
use crate::context::Context;
use crate::error::Error;
use crate::output::Table;
use crate::times::age;

use files::NewFiles;

mod files;

pub(super) async fn run(command: UserCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        UserCommand::Add { name, role, out } => add(name, role.into(), &out, session).await,
        UserCommand::List => list(session).await,
        UserCommand::Rm { name } => remove(&name, session).await,
    }
}

async fn add(user: UserId, role: Role, out: &Path, session: &mut Session<'_>) -> Result<(), Error> {
    // The files first: a user whose certificate has no place to go would be of no use.
    let files = NewFiles::reserve(out)?;
    let (key, csr) = new_key(&user)?;
    let request = NewUser {
        user: user.clone(),
        role,
        csr,
    };
    let target = at(paths::USERS, &[session.client.org().as_str()]);
    let issued: UserCertificate = session.client.send(Method::POST, target, &request).await?;
    let context = Context {
        hub: session.client.hub().clone(),
        org: session.client.org().clone(),
        user: user.clone(),
        certificate: files.certificate.name(),
        key: files.key.name(),
        ca: files.ca.name(),
    };
    let context = serde_yaml::to_string(&context)
        .map_err(|error| Error::Failed(format!("the context cannot be written: {error}")))?;
    files.write(&context, &issued.certificate, &key, &issued.trust_bundle)?;
    if session.ui.for_people() {
        let out = out.display();
        session.ui.print(&format!(
            "User {user} is added. Their context is {out}, with its certificate, key and CA beside \
             it; the key is nowhere else.\n"
        ))?;
    }
    Ok(())
}

async fn list(session: &mut Session<'_>) -> Result<(), Error> {
    let target = at(paths::USERS, &[session.client.org().as_str()]);
    let users: Vec<UserInfo> = session.client.get(target).await?;
    session.ui.show_list(&users, "There are no users.", |now| {
        let mut table = Table::new(["USER", "ROLE", "SINCE"]);
        for user in &users {
            let role = match user.role {
                Role::Admin => "admin",
                Role::User => "user",
            };
            table.row([
                user.user.to_string(),
                role.to_owned(),
                age(user.created_at, now),
            ]);
        }
        table.render()
    })
}

async fn remove(user: &UserId, session: &mut Session<'_>) -> Result<(), Error> {
    session.ui.confirm(&format!(
        "Remove user {user}? Their certificate stops working."
    ))?;
    let target = at(paths::USER, &[session.client.org().as_str(), user.as_str()]);
    session.client.command(Method::DELETE, target).await?;
    if session.ui.for_people() {
        session.ui.print(&format!("User {user} is removed.\n"))?;
    }
    Ok(())
}

/// A new private key and a signing request over it, both PEM. The hub decides what the certificate
/// says; the name in the request is for people who look at it.
fn new_key(user: &UserId) -> Result<(Zeroizing<String>, String), Error> {
    let make = || {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, user.as_str());
        let csr = params.serialize_request(&key)?.pem()?;
        Ok((Zeroizing::new(key.serialize_pem()), csr))
    };
    make().map_err(|error: rcgen::Error| Error::Failed(format!("no key can be made: {error}")))
}
