//! `edge-secrets lease …`

use edge_secrets_hub::wire::{LeaseInfo, LeasePage, paths};
use edge_secrets_protocol::NodeId;
use http::Method;

use super::Session;
use crate::cli::LeaseCommand;
use crate::client::at;
use crate::error::Error;
use crate::output::Table;
use crate::times::age;

pub(super) async fn run(command: LeaseCommand, session: &mut Session<'_>) -> Result<(), Error> {
    match command {
        LeaseCommand::List { node, ended } => {
            let leases = fetch(node.as_ref(), ended, session).await?;
            list(&leases, session)
        }
        LeaseCommand::Revoke { lease } => revoke(lease, session).await,
    }
}

/// The leases, oldest first; of very many the newest.
async fn fetch(
    node: Option<&NodeId>,
    ended: bool,
    session: &mut Session<'_>,
) -> Result<Vec<LeaseInfo>, Error> {
    let mut leases: Vec<LeaseInfo> = Vec::new();
    let mut before = None;
    loop {
        let target = at(paths::LEASES, &[session.client.org().as_str()])
            .with_some("node", node)
            .with("ended", ended)
            .with_some("before", before);
        let mut part: LeasePage = session.client.get(target).await?;
        part.leases.append(&mut leases);
        leases = part.leases;
        before = part.next;
        if before.is_none() {
            return Ok(leases);
        }
        if leases.len() >= MAX_LEASES {
            let count = leases.len();
            let note = format!("only the newest {count} are shown: name a node with --node");
            session.ui.note(&note);
            return Ok(leases);
        }
    }
}

fn list(leases: &[LeaseInfo], session: &mut Session<'_>) -> Result<(), Error> {
    let leases = &leases.to_vec();
    session.ui.show_list(leases, "There are no leases.", |now| {
        let headers = [
            "LEASE", "NODE", "SECRET", "STATE", "GRANTED", "ENDS", "TROUBLE",
        ];
        let mut table = Table::new(headers);
        for lease in leases {
            let state = match lease.current {
                true => lease.state.as_str().to_owned(),
                false => format!("{} (superseded)", lease.state.as_str()),
            };
            let trouble = lease.trouble.as_ref();
            let trouble = trouble.map(|trouble| format!("{}: {}", trouble.fault, trouble.detail));
            table.row([
                lease.id.to_string(),
                lease.node.to_string(),
                lease.reference.to_string(),
                state,
                lease.granted_at.map(|at| age(at, now)).unwrap_or_default(),
                lease.ends_at.map(|at| age(at, now)).unwrap_or_default(),
                trouble.unwrap_or_default(),
            ]);
        }
        table.render()
    })
}

async fn revoke(lease: u64, session: &mut Session<'_>) -> Result<(), Error> {
    session.ui.confirm(&format!(
        "End lease {lease}? The credential stops working where it is used."
    ))?;
    let target = at(
        paths::LEASE_REVOKE,
        &[session.client.org().as_str(), &lease.to_string()],
    );
    session.client.command(Method::POST, target).await?;
    if session.ui.for_people() {
        session.ui.print(&format!(
            "Lease {lease} is ended at its manager; where its binding still stands the node gets \
             another one.\n"
        ))?;
    }
    Ok(())
}

/// Most leases of one listing.
const MAX_LEASES: usize = 10_000;
