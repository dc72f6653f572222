//! `edge-secrets secret edit`: what is known of a secret changes, its value does not.

use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{SecretEdited, paths};
use http::Method;

use super::{Session, metadata, route};
use crate::cli::MetaArgs;
use crate::error::Error;
use crate::output::count;

pub(super) async fn run(
    name: &SecretRef,
    args: MetaArgs,
    session: &mut Session<'_>,
) -> Result<(), Error> {
    let change = metadata::change(&args, session.ui.now())?;
    if change.is_empty() {
        return Err(Error::Usage(
            "there is nothing to change: give --label, --no-labels, --description, --expires, \
             --max-versions or --rotate-every"
                .to_owned(),
        ));
    }
    let target = route(paths::SECRET, name, session);
    let client = &mut session.client;
    let done: SecretEdited = client.send(Method::PATCH, target, &change).await?;
    session.ui.show(&done, |now| {
        let reach = match done.nodes {
            0 => String::new(),
            nodes => format!(" and {} will hear of its end", count(nodes, "node")),
        };
        let facts = metadata::facts(&done.info, now);
        format!("Secret {name} is changed{reach}.\n{facts}")
    })
}
