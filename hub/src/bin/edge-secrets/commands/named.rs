//! Documents that are published under a name of their own: what `policy` and `pattern` have in common.

use edge_secrets_hub::wire::Published;
use edge_secrets_protocol::OrgId;
use http::Method;

use super::{Session, changes};
use crate::client::{Target, at};
use crate::error::Error;
use crate::input::read_document;

/// A document by its name.
pub(super) struct Named<'n> {
    /// What it is, as a sentence begins with it: `Policy`.
    pub(super) title: &'static str,
    /// The same within one.
    pub(super) noun: &'static str,
    /// Where it is at the hub.
    pub(super) path: &'static str,
    pub(super) name: &'n str,
}

impl Named<'_> {
    pub(super) async fn publish(
        &self,
        file: &str,
        dry_run: bool,
        allow_missing: bool,
        session: &mut Session<'_>,
    ) -> Result<Published, Error> {
        let target = self.target(session).with("dry_run", dry_run);
        let target = target.with("allow_missing", allow_missing);
        let document = read_document(&file.into(), session.ui)?;
        let published: Published = session
            .client
            .send_document(Method::PUT, target, document.media_type, document.body)
            .await
            .map_err(|error| error.about(&document.name))?;
        changes::show(
            &published,
            &format!("{} {} is published", self.title, self.name),
            &format!("Publishing {} {}", self.noun, self.name),
            session.ui,
        )?;
        Ok(published)
    }

    pub(super) async fn show(&self, session: &mut Session<'_>) -> Result<(), Error> {
        self.show_of(None, session).await
    }

    /// The same, of another organisation's where one is named.
    pub(super) async fn show_of(
        &self,
        of: Option<&OrgId>,
        session: &mut Session<'_>,
    ) -> Result<(), Error> {
        let target = self.target(session).with_some("of", of);
        // A YAML value keeps the order in which the document was written.
        let document: serde_yaml::Value = session.client.get(target).await?;
        session.ui.show(&document, |_| {
            serde_yaml::to_string(&document).unwrap_or_default()
        })
    }

    pub(super) async fn remove(
        &self,
        dry_run: bool,
        session: &mut Session<'_>,
    ) -> Result<(), Error> {
        let did = format!("{} {} is withdrawn", self.title, self.name);
        let would = format!("Withdrawing {} {}", self.noun, self.name);
        if !dry_run {
            if session.ui.will_ask() {
                // Who is asked should see what they are asked about.
                let published = self.withdraw(true, session).await?;
                let text = changes::render(&published, &did, &would);
                session.ui.note(&text);
            }
            session.ui.confirm(&format!(
                "Withdraw {} {} and wipe what it delivered?",
                self.noun, self.name
            ))?;
        }
        let published = self.withdraw(dry_run, session).await?;
        changes::show(&published, &did, &would, session.ui)
    }

    async fn withdraw(&self, dry_run: bool, session: &mut Session<'_>) -> Result<Published, Error> {
        let target = self.target(session).with("dry_run", dry_run);
        session.client.ask(Method::DELETE, target).await
    }

    fn target(&self, session: &Session<'_>) -> Target {
        at(self.path, &[session.client.org().as_str(), self.name])
    }
}
