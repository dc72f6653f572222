//! The life of one connection: tell, watch, converge, report, until it ends.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use edge_secrets_protocol::binding::{FetchItem, FetchResult};
use edge_secrets_protocol::limits::MAX_BATCH_ITEMS;
use edge_secrets_protocol::status::{DeploymentError, DeploymentState};
use edge_secrets_protocol::{Code, Generation};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::agenda::{Agenda, Due};
use super::agent::{Agent, End, until};
use super::hints::{Hint, Hints};
use crate::clock::Now;
use crate::ends::Desired;
use crate::hub::backoff::{random, up_to};
use crate::hub::{Connection, HubError, Pulled};
use crate::identity::{self, renewal::RenewalError};
use crate::status::HubState;

impl Agent {
    /// Connects and keeps up, until that ends.
    pub(super) async fn session(&mut self) -> Result<Infallible, End> {
        let (url, tls) = (self.config.hub.url.clone(), self.identity.tls.clone());
        let connection = self
            .attend(Connection::open(&url, tls))
            .await?
            .map_err(End::Lost)?;
        self.reported = None;
        self.agenda
            .connected(Instant::now(), RESYNC / 2 + up_to(RESYNC, random()));
        self.replan_renewal();
        // An expired certificate is good for its renewal alone, within the hub's grace.
        if self.agenda.renew.is_due(Instant::now()) {
            self.renew(&connection).await?;
        }
        self.tell(&connection).await?;
        let last = self.generation();
        let watch = self.attend(connection.watch(last)).await?.map_err(end_of)?;
        let mut session = Session {
            hints: Hints::follow(watch),
            connection,
        };
        self.accepted();
        // Heard at once, whatever call is waited for; a call that fails must not drown it.
        let revoked = session.hints.revoked();
        tokio::select! {
            biased;
            () = revoked => Err(End::Revoked("the hub has revoked this node".into())),
            end = self.keep_up(&mut session) => end,
        }
    }

    async fn keep_up(&mut self, session: &mut Session) -> Result<Infallible, End> {
        loop {
            if let Some(hint) = session.hints.news() {
                self.heed(hint)?;
            }
            self.step(session).await?;
        }
    }

    /// Does the next thing that is due, or waits for one.
    async fn step(&mut self, session: &mut Session) -> Result<(), End> {
        let now = Instant::now();
        if self.agenda.facts.is_due(now) {
            self.tell(&session.connection).await
        } else if self.agenda.converge.is_due(now) {
            self.converge(session).await
        } else if self.agenda.report.is_due(now) {
            self.report(&session.connection).await
        } else if self.agenda.keep.is_due(now) {
            match self.keep_again(&session.connection).await? {
                Ok(()) => Ok(()),
                Err(error) => self.put_off(error, |agenda| &mut agenda.keep),
            }
        } else if self.agenda.retire.is_due(now) {
            self.retire().await
        } else if self.agenda.renew.is_due(now) {
            self.renew(&session.connection).await
        } else if self.agenda.resync.is_due(now) {
            self.resync(now);
            Ok(())
        } else {
            let next = self.agenda.next();
            let idle = async {
                tokio::select! {
                    () = session.hints.changed() => {}
                    () = until(next) => {}
                }
            };
            self.turn(idle).await.map(|_| ())
        }
    }

    /// The hub has taken this identity.
    fn accepted(&mut self) {
        self.board.hub_is(HubState::Connected, None);
        self.offline.age.heard(Now::read());
        self.set_alarm();
        self.counters.reconnects.increment();
        self.counters.contacted(Timestamp::now());
        self.publish();
        info!(hub = %self.config.hub.url, "Connected.");
        if !self.proven {
            self.proven = true;
            self.agenda.retire.by(Instant::now());
        }
    }

    fn heed(&mut self, hint: Hint) -> Result<(), End> {
        if let Some(error) = hint.ended {
            return Err(End::Lost(error));
        }
        let applied = self.generation();
        if let Some(event) = hint
            .latest
            .filter(|event| Some(event.generation) != applied)
        {
            let spread = up_to(Duration::from_millis(event.spread_ms.into()), random());
            self.agenda.converge.by(Instant::now() + spread);
        }
        Ok(())
    }

    /// Tells the hub what this node is.
    async fn tell(&mut self, connection: &Connection) -> Result<(), End> {
        let Some(facts) = self.facts.clone() else {
            self.agenda.facts.done();
            return Ok(());
        };
        match self.attend(connection.put_node(&facts)).await? {
            Ok(()) => {
                self.agenda.facts.done();
                Ok(())
            }
            Err(error) => self.put_off(error, |agenda| &mut agenda.facts),
        }
    }

    /// Pulls, plans, fetches and delivers; tried again later for what does not come.
    async fn converge(&mut self, session: &mut Session) -> Result<(), End> {
        let pulled = self.pull(session).await?;
        self.counters.pulls.increment();
        if let Err(error) = pulled {
            self.counters.pull_failures.increment();
            return self.put_off(error, |agenda| &mut agenda.converge);
        }
        self.counters.contacted(Timestamp::now());
        self.keep_no_longer().await?;
        let Some(desired) = &self.desired else {
            self.agenda.converge.done();
            self.readiness.ready();
            return Ok(());
        };
        let wanted = self.reconciler.desire(desired, Now::read());
        // A fetch may take long: what has gone is told nobody meanwhile, and an end may have come nearer.
        self.tick();
        let nothing_wanted = wanted.is_empty();
        let fetched = self.fetch(session, wanted).await?;
        self.tick();
        if fetched.is_ok() {
            self.readiness.ready();
        }
        self.keep().await?;
        self.agenda.report.by(Instant::now());
        if let Err(error) = fetched {
            return self.put_off(error, |agenda| &mut agenda.converge);
        }
        if session.hints.are_beyond(self.generation()) {
            self.agenda.converge.failed(Instant::now());
            return Ok(());
        }
        if let Err(error) = self.fill(&session.connection).await? {
            return self.put_off(error, |agenda| &mut agenda.converge);
        }
        let wait = match self.unfinished(nothing_wanted) {
            Unfinished::Nothing => {
                self.agenda.converge.done();
                return Ok(());
            }
            Unfinished::OnItsWay => self.agenda.converge.failed_within(Instant::now(), PATIENCE),
            Unfinished::Refused => self.agenda.converge.failed(Instant::now()),
        };
        debug!(
            wait_ms = wait.as_millis() as u64,
            "Not everything is applied; trying again."
        );
        Ok(())
    }

    /// What is worth asking for again.
    fn unfinished(&self, nothing_wanted: bool) -> Unfinished {
        let deployments = self.reconciler.report().deployments;
        let on_its_way =
            |error: &DeploymentError| matches!(error.code, Code::Expired | Code::Pending);
        let mut errors = deployments.iter().filter_map(|d| d.error.as_ref());
        if errors.any(on_its_way) {
            return Unfinished::OnItsWay;
        }
        let settled = |state| {
            matches!(
                state,
                DeploymentState::Applied | DeploymentState::Stopped | DeploymentState::Wiped
            )
        };
        if nothing_wanted || deployments.iter().all(|d| settled(d.state)) {
            Unfinished::Nothing
        } else {
            Unfinished::Refused
        }
    }

    /// The generation of the bindings at hand.
    fn generation(&self) -> Option<Generation> {
        let desired = self.desired.as_ref();
        desired.map(|desired| desired.bindings().generation)
    }

    async fn pull(&mut self, session: &Session) -> Result<Result<(), HubError>, End> {
        let what = "the pull of bindings";
        let before = self.generation();
        let nothing = Desired::default();
        let mut known = before;
        let desired = loop {
            let answer = match self.attend(session.connection.bindings(known)).await? {
                Ok(Pulled::Unchanged) => return Ok(Ok(())),
                Ok(Pulled::Changed(answer)) => answer,
                Err(error) => return Ok(Err(error)),
            };
            let base = self.desired.as_ref().filter(|_| known.is_some());
            match (answer.onto(base.unwrap_or(&nothing)), known.take()) {
                (Ok(desired), _) => break desired,
                (Err(_), Some(_)) => debug!("The difference does not fit; pulling the whole."),
                (Err(_), None) => {
                    let reason = "it is a difference where the whole was asked for";
                    return Ok(Err(HubError::Malformed { what, reason }));
                }
            }
        };
        let generation = desired.bindings().generation;
        // However it comes: late, from a hub that is behind another one, or from one that goes on beside
        // the one that was restored from its backup. That one has gone on beyond whatever this node knows.
        if self.followed.is_some_and(|followed| generation < followed) {
            // The rest goes on: what this node reports tells operators that it is behind.
            self.board
                .hub_is(HubState::Connected, Some(&HubError::Older));
            self.publish();
            return Ok(Err(HubError::Older));
        }
        self.board.hub_is(HubState::Connected, None);
        if before.is_none() {
            // What a former life kept is no older answer.
            self.reconciler.start_over();
            self.offline.forget_words();
        }
        self.followed = Some(generation);
        let deployments = desired.bindings().deployments.len();
        info!(%generation, deployments, "Bindings pulled.");
        self.desired = Some(desired);
        Ok(Ok(()))
    }

    /// Fetches until nothing is left to ask for; what the hub refused is asked for again later.
    async fn fetch(
        &mut self,
        session: &Session,
        mut wanted: Vec<FetchItem>,
    ) -> Result<Result<(), HubError>, End> {
        let mut answered = BTreeSet::new();
        loop {
            // Over a slow link each batch takes long: what was withdrawn meanwhile does not wait for all.
            if !answered.is_empty() && session.hints.are_beyond(self.generation()) {
                return Ok(Ok(()));
            }
            // Each value once: whatever becomes of it, this ends.
            wanted.retain(|item| !answered.contains(item));
            wanted.truncate(MAX_BATCH_ITEMS);
            if wanted.is_empty() {
                return Ok(Ok(()));
            }
            let results = match self
                .attend(session.connection.secrets(wanted.clone()))
                .await?
            {
                Ok(results) => results,
                Err(error) => return Ok(Err(error)),
            };
            let fetched: Vec<_> = wanted
                .into_iter()
                .zip(results)
                .filter(|(_, result)| !is_full(result))
                .collect();
            if fetched.is_empty() {
                return Ok(Err(HubError::Malformed {
                    what: "the fetch of secrets",
                    reason: "it is full and empty at once",
                }));
            }
            let identity = &self.identity;
            self.reconciler.deliver(
                &identity.org,
                &identity.node,
                &identity.sealing.all(),
                &fetched,
                Now::read(),
            );
            for (item, result) in &fetched {
                self.offline.arrived(item, result);
            }
            if !self.reconciler.take_unopened().is_empty() {
                self.need_other_keys();
            }
            self.tick();
            answered.extend(fetched.into_iter().map(|(item, _)| item));
            wanted = self.reconciler.again();
        }
    }

    async fn report(&mut self, connection: &Connection) -> Result<(), End> {
        let report = self.status_report();
        if self.reported.as_ref() == Some(&report) {
            self.agenda.report.done();
            return Ok(());
        }
        match self.attend(connection.put_status(&report)).await? {
            Ok(()) => {
                // What changed while the report was on its way is told at once.
                if self.status_report() == report {
                    self.reconciler.report_sent(&report);
                    self.reported = Some(self.status_report());
                }
                Ok(())
            }
            Err(error) => self.put_off(error, |agenda| &mut agenda.report),
        }
    }

    async fn renew(&mut self, connection: &Connection) -> Result<(), End> {
        let renewal = identity::renew(connection.clone(), self.store.clone(), self.identity.set);
        match self.attend(renewal).await? {
            Ok(identity) => {
                let until = identity.validity.not_after;
                info!(%until, "Certificate renewed.");
                self.adopt(identity);
                self.agenda.renew.not_before(Instant::now() + RENEWAL_GAP);
                Err(End::Reconnect)
            }
            Err(RenewalError::Hub(error)) => {
                // Also when the connection ends with it: the next one must not begin with it again.
                self.agenda.renew.failed(Instant::now());
                self.put_off(error, |agenda| &mut agenda.renew)
            }
            Err(error) => {
                warn!(%error, "Certificate not renewed; trying again.");
                self.agenda.renew.failed(Instant::now());
                Ok(())
            }
        }
    }

    /// The hub seals to a key that this node has not: its own is damaged, or it was brought back from a
    /// copy of before it changed. A renewal brings another one, and tells it the hub.
    fn need_other_keys(&mut self) {
        let now = Instant::now();
        if self.keys_asked.is_some_and(|asked| now < asked + KEYS_GAP) {
            return;
        }
        self.keys_asked = Some(now);
        warn!(
            "No sealing key here opens what the hub sends; the certificate is renewed, with another key."
        );
        self.agenda.renew.at(now);
    }

    /// Looks without being asked to: at what lies on tmpfs, at the hub, at the clock.
    fn resync(&mut self, now: Instant) {
        self.reconciler.verify();
        self.reported = None;
        self.offline.ask_again();
        self.plan_renewal();
        self.agenda.converge.by(now);
        self.agenda.report.by(now);
        self.agenda
            .resync
            .at(now + RESYNC / 2 + up_to(RESYNC, random()));
    }

    /// A call has failed: it ends the connection, or is made again later.
    fn put_off(&mut self, error: HubError, due: fn(&mut Agenda) -> &mut Due) -> Result<(), End> {
        if error.ends_connection() || ends_session(&error) {
            if error.code() == Some(Code::CertificateExpired) {
                self.agenda.renew.at(Instant::now());
            }
            return Err(end_of(error));
        }
        let wait = due(&mut self.agenda).failed(Instant::now());
        warn!(%error, retry_in_ms = wait.as_millis() as u64, "Call refused; trying again.");
        Ok(())
    }
}

/// What a pull and a fetch have left undone.
enum Unfinished {
    /// Whatever is left, the hub says when it has changed.
    Nothing,
    /// The hub expects to have it soon. That it says so when it does is a hint, like all that it pushes.
    OnItsWay,
    /// The hub or this node refuses something.
    Refused,
}

/// What belongs to one connection.
struct Session {
    connection: Connection,
    hints: Hints,
}

fn is_full(result: &FetchResult) -> bool {
    matches!(result, FetchResult::Problem(problem) if problem.code == Code::BatchFull)
}

fn ends_session(error: &HubError) -> bool {
    matches!(
        error.code(),
        Some(Code::CertificateExpired | Code::NodeRevoked | Code::NotEnrolled)
    )
}

fn end_of(error: HubError) -> End {
    match error.code() {
        Some(Code::NodeRevoked) => End::Revoked(error.detail()),
        _ => End::Lost(error),
    }
}

/// How often to look without being asked to, about.
const RESYNC: Duration = Duration::from_secs(600);
/// What is on its way is asked for at least that often.
const PATIENCE: Duration = Duration::from_secs(60);
/// A new sealing key that helps nothing is not followed by another one at once.
const KEYS_GAP: Duration = Duration::from_secs(3600);
/// A hub whose certificates are due at once must not be asked all the time.
const RENEWAL_GAP: Duration = Duration::from_secs(5);
