//! Asking the hub about everything, and publishing it.

use std::collections::BTreeMap;

use edge_secrets_hub::policy::{Definitions, PolicyCheck};
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{HubInfo, Published};
use edge_secrets_protocol::Code;

use super::super::Session;
use super::hub::{self, Standing};
use super::recognise::Kind;
use super::report::{Entry, Report, State};
use super::understand::Understood;
use super::{OpenHorizonArgs, check};
use crate::error::Error;
use crate::output::Ui;

/// One import under way.
pub(super) struct Import<'a> {
    pub(super) args: &'a OpenHorizonArgs,
    pub(super) info: &'a HubInfo,
    pub(super) report: Report,
}

/// What is known of the hub and of the documents before.
struct Known {
    standing: Standing,
    /// The hub's definitions as far as they are needed, and those that are to be published.
    definitions: Definitions,
    /// Secrets, and whether they are there.
    secrets: BTreeMap<SecretRef, bool>,
    /// Every definition so far is at the hub already.
    all_there: bool,
}

impl Import<'_> {
    /// Asks the hub about everything, and then publishes it if nothing is refused or told to. What ended
    /// the publishing early: what was published until then stays, and the report says what.
    pub(super) async fn work_out(
        &mut self,
        understood: &[Understood],
        session: &mut Session<'_>,
    ) -> Result<Option<Error>, Error> {
        let standing = Standing::fetch(session).await?;
        let needed = check::needed_beyond(understood);
        let theirs = standing.definitions(needed, session).await?;
        let mut known = Known {
            standing,
            definitions: check::with_these(theirs, understood, &self.info.user),
            secrets: BTreeMap::new(),
            all_there: true,
        };
        let mut pending = Vec::new();
        for (at, one) in understood.iter().enumerate() {
            progress("looking at", at, understood.len(), one, session.ui);
            let entry = self.look_at(one, &mut known, session).await?;
            if entry.state != State::Unchanged && !entry.is_refused {
                pending.push((at, one));
            }
            self.report.documents.push(entry);
        }
        let may = self.report.refused.is_empty() || self.args.keep_going;
        if self.args.dry_run || !may {
            return Ok(None);
        }
        Ok(self.publish(&pending, session).await)
    }

    /// A document's entry, and among the refused what speaks against it.
    async fn look_at(
        &mut self,
        one: &Understood,
        known: &mut Known,
        session: &mut Session<'_>,
    ) -> Result<Entry, Error> {
        let state = known.standing.of(one, session).await?;
        let mut checked = check::check(one, &self.info.user, &known.definitions);
        self.check_secrets(one, &mut checked, known, session)
            .await?;
        if state == State::Changed && !known.standing.may_replace(one, self.info) {
            checked.faults.push("another user published it".to_owned());
        }
        if state != State::Unchanged && !known.standing.may_share(one, self.info) {
            let fault = "public: only an administrator publishes what other organisations may use";
            checked.faults.push(fault.to_owned());
        }
        let mut entry = entry(one, state);
        // Policies it can be asked about only once their definitions are there.
        let can_ask = one.kind() == Kind::Service || known.all_there;
        if state != State::Unchanged && can_ask && checked.faults.is_empty() {
            match hub::publish(one, true, self.args.allow_missing, session).await {
                // Of what it warns is here and comes before: ours are those that count.
                Ok(published) => entry.nodes = Some(nodes(&published)),
                Err(error) if error.code().is_some_and(is_refusal) => {
                    checked.faults.push(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        if state == State::Unchanged {
            // What the hub has and keeps is no fault of this import.
            checked.warnings.append(&mut checked.faults);
        } else if one.kind() == Kind::Service {
            known.all_there = false;
        }
        entry.is_refused = !checked.faults.is_empty();
        entry.warnings = checked.warnings;
        let faults = checked.faults.into_iter();
        let refusals = faults.map(|fault| one.refusal(fault));
        self.report.refused.extend(refusals);
        Ok(entry)
    }

    async fn check_secrets(
        &self,
        one: &Understood,
        checked: &mut PolicyCheck,
        known: &mut Known,
        session: &mut Session<'_>,
    ) -> Result<(), Error> {
        // As the hub has it: another user's secret is refused as such, and once is enough.
        if !checked.faults.is_empty() {
            return Ok(());
        }
        for reference in check::references(one) {
            let there = match known.secrets.get(&reference) {
                Some(there) => *there,
                None => {
                    let there = hub::is_there(&reference, session).await?;
                    known.secrets.insert(reference.clone(), there);
                    there
                }
            };
            if there {
                continue;
            }
            let fault = format!("secret \"{}\" does not exist", reference.secret());
            let may_miss = self.args.allow_missing || checked.optional.contains(&reference);
            match may_miss {
                true => checked.warnings.push(fault),
                false => checked.faults.push(fault),
            }
        }
        Ok(())
    }

    async fn publish(
        &mut self,
        pending: &[(usize, &Understood)],
        session: &mut Session<'_>,
    ) -> Option<Error> {
        for (number, (at, one)) in pending.iter().enumerate() {
            progress("publishing", number, pending.len(), one, session.ui);
            match hub::publish(one, false, self.args.allow_missing, session).await {
                Ok(published) => {
                    if let Some(entry) = self.report.documents.get_mut(*at) {
                        entry.published = true;
                        entry.nodes = Some(nodes(&published));
                        entry.warnings = published.warnings;
                    }
                }
                Err(error) if error.code().is_some_and(is_refusal) => {
                    self.report.refused.push(one.refusal(error.to_string()));
                    if !self.args.keep_going {
                        return None;
                    }
                }
                Err(error) => return Some(error),
            }
        }
        None
    }
}

fn entry(one: &Understood, state: State) -> Entry {
    Entry {
        file: one.origin.file.display().to_string(),
        key: one.origin.key.clone(),
        kind: one.kind(),
        name: one.identity().to_string(),
        state,
        published: state == State::Unchanged,
        is_refused: false,
        nodes: None,
        differs: one.differs.clone(),
        warnings: Vec::new(),
    }
}

fn nodes(published: &Published) -> usize {
    let mut nodes: Vec<_> = published
        .changes
        .iter()
        .map(|change| &change.node)
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len()
}

/// The document's fault, and not that of the moment.
fn is_refusal(code: Code) -> bool {
    !matches!(
        code,
        Code::Unavailable | Code::Pending | Code::RateLimited | Code::Internal | Code::NotEnrolled
    )
}

fn progress(what: &str, at: usize, total: usize, one: &Understood, ui: &mut Ui) {
    ui.hint(&format!(
        "[{}/{total}] {what} {} {}",
        at + 1,
        one.kind().as_str(),
        one.identity()
    ));
}
