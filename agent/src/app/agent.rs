//! The node's state and the one task that owns it. Whatever waits for the network waits through
//! [`Agent::attend`], which meanwhile keeps house: wipes whose time has come, changed files, stop.

use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use edge_secrets_protocol::node::NodeFacts;
use edge_secrets_protocol::status::StatusReport;
use edge_secrets_protocol::{Code, Generation, NodeId, OrgId};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::agenda::Agenda;
use super::board::Board;
use super::facts;
use super::files::FileWatch;
use super::host::{self, Host, News};
use super::offline::Offline;
use super::readiness::Readiness;
use crate::clock::{Alarm, Now};
use crate::config::Config;
use crate::ends::Desired;
use crate::hub::HubError;
use crate::hub::backoff::{Backoff, random, up_to};
use crate::identity::{NodeIdentity, Store, renewal};
use crate::metrics::Counters;
use crate::reconcile::Reconciler;
use crate::status::HubState;
use crate::systemd::manager::Manager;

pub(super) struct Agent {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) identity: NodeIdentity,
    /// Whether the hub has taken this identity; until then the one before it is kept.
    pub(super) proven: bool,
    /// Whether it is the one before, because the hub did not take the newest.
    pub(super) rolled_back: bool,
    pub(super) reconciler: Reconciler,
    /// What the reconciler was last told to reach: what a difference is put onto.
    pub(super) desired: Option<Desired>,
    /// The newest generation that this enrolment has followed, as far as anything tells of it: there is no
    /// way back behind it.
    pub(super) followed: Option<Generation>,
    /// What is kept for times without a hub.
    pub(super) offline: Offline,
    /// `None` while the node policy file is malformed: the hub keeps what it knew.
    pub(super) facts: Option<NodeFacts>,
    /// What the hub has taken over this connection.
    pub(super) reported: Option<StatusReport>,
    pub(super) agenda: Agenda,
    pub(super) board: Board,
    pub(super) host: Host,
    pub(super) readiness: Readiness,
    pub(super) counters: Arc<Counters>,
    config_path: PathBuf,
    /// What was last complained about, to say it once.
    complaint: Option<String>,
    tick_at: Option<Instant>,
    /// Rings when a value ends.
    alarm: Alarm,
    renewal: renewal::Plan,
    /// When that was looked at.
    renewal_seen: Now,
    files: FileWatch,
    /// When a renewal was asked for because nothing here opened what the hub sent.
    pub(super) keys_asked: Option<Instant>,
    /// Rings when somebody asks the agent to look at everything again.
    asked: Arc<Notify>,
    /// Files are looked at then, though nobody said that they changed.
    look_at: Instant,
    stop: CancellationToken,
}

/// What an agent is made of.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) identity: NodeIdentity,
    pub(super) reconciler: Reconciler,
    pub(super) offline: Offline,
    pub(super) board: Board,
    pub(super) host: Host,
    pub(super) readiness: Readiness,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: CancellationToken,
}

/// Why a connection, or the wait for one, is over.
#[derive(Debug)]
pub(super) enum End {
    /// The hub is gone or refuses.
    Lost(HubError),
    /// Another identity or address: connect anew at once.
    Reconnect,
    /// The hub says that the node is revoked.
    Revoked(String),
    /// The agent stops.
    Stop,
}

impl Agent {
    pub(super) fn new(parts: Parts, config_path: &Path) -> Self {
        let validity = parts.identity.validity;
        let mut agent = Self {
            config: parts.config,
            store: parts.store,
            identity: parts.identity,
            proven: false,
            rolled_back: false,
            reconciler: parts.reconciler,
            desired: None,
            followed: None,
            offline: parts.offline,
            facts: None,
            reported: None,
            agenda: Agenda::new(),
            board: parts.board,
            host: parts.host,
            readiness: parts.readiness,
            counters: parts.counters,
            config_path: config_path.to_owned(),
            complaint: None,
            tick_at: None,
            alarm: Alarm::default(),
            files: FileWatch::new(),
            keys_asked: None,
            asked: Arc::new(Notify::new()),
            look_at: Instant::now() + LOOK,
            renewal: renewal::Plan::found(validity, random()),
            renewal_seen: Now::read(),
            stop: parts.stop,
        };
        agent.watch_files();
        agent.refresh_facts();
        agent.plan_renewal();
        agent
    }

    pub(super) fn node(&self) -> (&OrgId, &NodeId) {
        (&self.identity.org, &self.identity.node)
    }

    pub(super) fn reload_bell(&self) -> Arc<Notify> {
        self.asked.clone()
    }

    pub(super) fn manager(&self) -> Manager {
        self.host.manager()
    }

    /// Lives until told to stop.
    pub(super) async fn run(&mut self) {
        let (org, node) = self.node();
        info!(%org, %node, hub = %self.config.hub.url, "Agent started.");
        self.host.apply_lives(&mut self.reconciler);
        self.recall();
        self.tick();
        let mut backoff = Backoff::connecting();
        loop {
            let started = Instant::now();
            let Err(end) = self.session().await;
            if started.elapsed() > STABLE {
                backoff.succeeded();
            }
            let wait = match end {
                End::Stop => break,
                End::Reconnect => Duration::ZERO,
                End::Lost(error) => self.lost(error, &mut backoff),
                End::Revoked(why) => self.revoked(&why),
            };
            self.publish();
            if matches!(self.attend(sleep(wait)).await, Err(End::Stop)) {
                break;
            }
        }
        self.offline.age.ends(Now::read());
        self.readiness.stopping();
        info!("Agent stopped.");
    }

    /// Waits for `work`, keeping house meanwhile.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            if let Some(done) = self.turn(work.as_mut()).await? {
                return Ok(done);
            }
        }
    }

    /// Waits for `work` or until some housekeeping was done, which may have changed the agenda.
    pub(super) async fn turn<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<Option<T>, End> {
        let housekeeping = [
            self.tick_at,
            self.files.settled_at(),
            self.readiness.next(),
            Some(self.look_at),
        ]
        .into_iter()
        .flatten()
        .min();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(End::Stop),
            () = self.asked.notified() => {
                self.refresh()?;
                Ok(None)
            }
            () = self.alarm.rung() => {
                self.expire();
                Ok(None)
            }
            () = self.files.rung() => {
                self.files.settle(Instant::now());
                Ok(None)
            }
            () = until(housekeeping) => {
                let now = Instant::now();
                if self.tick_at.is_some_and(|at| at <= now) {
                    self.tick();
                }
                self.readiness.tick(now);
                if self.look_at <= now {
                    // A watch can miss what happens; nothing is lost by it.
                    self.look_at = now + LOOK;
                    self.files.settle(now);
                }
                if self.files.take_settled(now) {
                    self.reload()?;
                }
                Ok(None)
            }
            done = work => Ok(Some(done)),
            news = self.host.next() => {
                self.take_news(news);
                Ok(None)
            }
        }
    }

    /// Wipes what is due and makes the state visible.
    pub(super) fn tick(&mut self) {
        let next = self.reconciler.tick(std::time::Instant::now());
        self.tick_at = next.map(Instant::from_std);
        self.set_alarm();
        self.host.follow(&mut self.reconciler);
        let (org, node) = (&self.identity.org, &self.identity.node);
        self.host.serve_apis(&self.reconciler, org, node);
        self.publish();
    }

    /// Wakes up when the next value ends.
    pub(super) fn set_alarm(&mut self) {
        let next = [
            self.reconciler.next_end(Now::read()),
            self.offline.age.next(),
        ];
        self.alarm.set(next.into_iter().flatten().min());
    }

    /// Values have ended: they go, the hub hears of it, and is asked for others.
    fn expire(&mut self) {
        self.grow_old();
        if self.reconciler.expire(Now::read()) {
            // One secret may end on many nodes at once.
            let then = Instant::now() + up_to(END_SPREAD, random());
            self.agenda.converge.by(then);
            self.agenda.report.by(then);
        }
        self.tick();
    }

    /// Makes the present state visible.
    pub(super) fn publish(&mut self) {
        let cache = self.offline.status(&self.identity);
        self.board
            .publish(&self.identity, &self.reconciler, &self.host, cache);
        self.readiness.say(&self.board.status());
    }

    /// What to tell the hub.
    pub(super) fn status_report(&self) -> StatusReport {
        host::report_failing(self.reconciler.report(), &self.board.status().services)
    }

    fn take_news(&mut self, news: News) {
        let now = Instant::now();
        let lives = self.host.take(news, &mut self.reconciler);
        if lives && self.host.apply_lives(&mut self.reconciler) {
            self.agenda.converge.by(now);
            self.converge_without_hub();
        }
        self.tick();
        self.agenda.report.by(now);
    }

    /// Takes another identity into use, which the hub has given just now.
    pub(super) fn adopt(&mut self, identity: NodeIdentity) {
        let plan = renewal::Plan::given(identity.validity, random(), Now::read());
        self.take_identity(identity, plan);
    }

    fn take_identity(&mut self, identity: NodeIdentity, plan: renewal::Plan) {
        self.identity = identity;
        self.proven = false;
        self.rolled_back = false;
        self.renewal = plan;
        self.board.identity_is(&self.config, &self.identity);
        self.plan_renewal();
    }

    /// Plans the renewal anew, if the clock by which it was planned has been set since.
    pub(super) fn replan_renewal(&mut self) {
        if Now::read().was_set_since(self.renewal_seen) {
            self.plan_renewal();
        }
    }

    /// Notes when to renew. Asked again at each resync: the clock may have been set meanwhile.
    pub(super) fn plan_renewal(&mut self) {
        let now = Now::read();
        self.renewal_seen = now;
        let (sealing, custody) = (&self.identity.sealing, self.identity.custody);
        if sealing.current().is_none() || custody != self.store.custody().wanted() {
            // The sealing key changes with it: to one that can be opened, and is kept as it should be.
            self.agenda.renew.at(Instant::now());
            return;
        }
        let wait = self.renewal.wait(now);
        self.agenda.renew.at(Instant::now() + wait.min(FAR));
    }

    fn lost(&mut self, mut error: HubError, backoff: &mut Backoff) -> Duration {
        // One step at most until the hub has taken one: a hub that refuses everybody for a moment must not
        // lead back behind what it knows.
        let may_go_back = !self.proven && !self.rolled_back;
        if error.refuses_identity() && may_go_back && self.roll_back() {
            return Duration::ZERO;
        }
        error = blame_clock(error, self.identity.validity.not_before, Timestamp::now());
        if error.code() == Some(Code::NotEnrolled) {
            error = HubError::Lost(format!(
                "{error}; enrol this node again: edge-secrets-agent enroll --force --token -"
            ));
        }
        let wait = backoff.failed();
        let before = self.board.state();
        self.offline.age.lost(Now::read());
        self.set_alarm();
        self.board.hub_is(HubState::Disconnected, Some(&error));
        if before == HubState::Connected {
            warn!(%error, "Hub lost; what services read stays as it is.");
        } else {
            warn!(%error, retry_in_ms = wait.as_millis() as u64, "Hub not reached.");
        }
        wait
    }

    /// The new certificate is not taken: back to the one before, when there is one.
    fn roll_back(&mut self) -> bool {
        let former = self.store.roll_back(self.identity.set).ok().flatten();
        let Some(identity) = former.and_then(|_| NodeIdentity::load(&self.store).ok().flatten())
        else {
            return false;
        };
        warn!("The hub does not take the renewed certificate; back to the one before.");
        let plan = renewal::Plan::found(identity.validity, random());
        // Once the hub has taken that one, the refused one goes: the next refusal must not lead back to it.
        self.take_identity(identity, plan);
        let gap = Instant::now() + AFTER_ROLLING_BACK;
        self.agenda.renew.not_before(gap);
        self.rolled_back = true;
        true
    }

    fn revoked(&mut self, why: &str) -> Duration {
        self.desired = None;
        self.reported = None;
        let first = self.board.state() != HubState::Revoked;
        let told = HubError::Lost(format!(
            "{why}; everything is wiped. If the node should come back, enrol it again"
        ));
        self.board.hub_is(HubState::Revoked, Some(&told));
        // First, so that no crash forgets what was heard, or brings back what is wiped.
        self.offline.age.revoke(Now::read());
        self.offline.forget();
        let wiped = self.reconciler.wipe_all(Timestamp::now());
        self.tick();
        self.readiness.ready();
        match wiped {
            Ok(()) => {
                if first {
                    warn!(%why, "Node revoked; everything is wiped.");
                }
                REVOKED_POLL / 2 + up_to(REVOKED_POLL, random())
            }
            Err(error) => {
                error!(%error, "Node revoked, and not everything could be wiped; trying again.");
                // Also when the hub does not say it again.
                self.offline.age.again(Now::read());
                self.set_alarm();
                WIPE_RETRY
            }
        }
    }

    /// Looks at everything, as after a long time, because somebody asks for it.
    fn refresh(&mut self) -> Result<(), End> {
        info!("Asked to look at everything again.");
        self.readiness.reloading();
        self.reconciler.verify();
        self.reported = None;
        let now = Instant::now();
        self.agenda.converge.by(now);
        self.agenda.report.by(now);
        let reloaded = self.reload();
        self.readiness.reloaded();
        reloaded
    }

    /// Reads configuration, profiles, node policy and identity again; what is malformed changes
    /// nothing.
    fn reload(&mut self) -> Result<(), End> {
        // Before reading, so that what changes meanwhile is read again; after it for what it names.
        self.watch_files();
        let reshaped = self.host.reload();
        if reshaped {
            self.reconciler.shape_by(self.host.profiles());
        }
        if self.host.apply_lives(&mut self.reconciler) || reshaped {
            self.agenda.converge.by(Instant::now());
            self.converge_without_hub();
        }
        self.tick();
        self.watch_files();
        let url = self.config.hub.url.clone();
        match Config::load(&self.config_path) {
            Ok(config) if config != self.config => self.take_config(config),
            Ok(_) => {}
            Err(error) => {
                self.complain(
                    &error.to_string(),
                    "Configuration refused; the one before stays.",
                );
                return self.reload_identity();
            }
        }
        self.refresh_facts();
        self.watch_files();
        self.reload_identity()?;
        if self.config.hub.url == url {
            Ok(())
        } else {
            Err(End::Reconnect)
        }
    }

    fn take_config(&mut self, config: Config) {
        if let Err(error) = self.identity.check_configured(&config.node) {
            self.complain(
                &error.to_string(),
                "Configuration refused; the one before stays.",
            );
            return;
        }
        let fixed = |config: &Config| Config {
            hub: self.config.hub.clone(),
            node: self.config.node.clone(),
            offline: self.config.offline,
            ..config.clone()
        };
        if fixed(&config) != fixed(&self.config) {
            warn!(
                "What is not under hub, node and offline takes effect when the agent is restarted."
            );
        }
        if config.hub.url != self.config.hub.url {
            self.forget_hub();
        }
        info!(file = %self.config_path.display(), "Configuration read again.");
        self.config = config;
        let now = Now::read();
        self.offline.configure(&self.config, &self.identity, now);
        self.set_alarm();
        self.board.identity_is(&self.config, &self.identity);
        self.publish();
    }

    /// Another address, or another enrolment: what was said is no base for a difference.
    fn forget_hub(&mut self) {
        self.desired = None;
        self.reported = None;
        self.offline.forget_words();
        self.reconciler.start_over();
    }

    fn refresh_facts(&mut self) {
        let mut services: Vec<_> = self
            .reconciler
            .services()
            .into_iter()
            .map(|service| service.service)
            .collect();
        services.sort();
        services.dedup();
        match facts::gather(&self.config, services) {
            Ok(facts) => {
                self.complaint = None;
                if self.facts.as_ref() != Some(&facts) {
                    self.facts = Some(facts);
                    self.agenda.facts.by(Instant::now());
                }
            }
            Err(error) => self.complain(
                &error.to_string(),
                "Node policy refused; the hub keeps what it was told before.",
            ),
        }
    }

    fn reload_identity(&mut self) -> Result<(), End> {
        let current = self.store.current().ok().flatten();
        if current.is_none_or(|set| set == self.identity.set) {
            return Ok(());
        }
        match NodeIdentity::load(&self.store) {
            Ok(Some(identity)) => {
                info!(org = %identity.org, node = %identity.node, "New identity.");
                self.forget_hub();
                // Generations of the former enrolment mean nothing to it.
                self.followed = None;
                self.adopt(identity);
                self.offline.forget_for(&self.identity);
                self.reconciler.deliver_as(&self.identity.enrolment);
                Err(End::Reconnect)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                self.complain(
                    &error.to_string(),
                    "New identity refused; the one before stays.",
                );
                Ok(())
            }
        }
    }

    fn complain(&mut self, error: &str, what: &str) {
        if self.complaint.as_deref() != Some(error) {
            warn!(%error, "{what}");
            self.complaint = Some(error.to_owned());
        }
    }

    fn watch_files(&mut self) {
        // The store's, since another state_dir takes effect at the next start only.
        let identity = self.store.dir().join("identity");
        let mut files = vec![self.config_path.as_path(), &identity];
        files.extend(self.config.node.policy_file.as_deref());
        let profiles = self.host.watched();
        let profiles: Vec<_> = profiles.iter().map(PathBuf::as_path).collect();
        self.files.watch(&files, &profiles);
    }
}

/// Names a clock that is behind, where that is why a connection did not come about.
fn blame_clock(error: HubError, starts: Timestamp, now: Timestamp) -> HubError {
    if !matches!(error, HubError::Tls { .. }) || starts <= now {
        return error;
    }
    HubError::Lost(format!(
        "{error}; the clock of this machine is behind: it says {}, and the node's certificate starts \
         at {starts}",
        now.strftime("%FT%TZ")
    ))
}

/// Until then; for ever when there is nothing to wait for.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// A connection that lived this long makes the next failure a first one.
const STABLE: Duration = Duration::from_secs(30);
/// How often a revoked node asks whether it is taken back, about.
const REVOKED_POLL: Duration = Duration::from_secs(300);
/// How often files are looked at without being asked to.
const LOOK: Duration = Duration::from_secs(300);
/// Within this the hub hears that values have ended.
const END_SPREAD: Duration = Duration::from_secs(3);
const WIPE_RETRY: Duration = Duration::from_secs(10);
/// Further than timers reach; planned again long before.
const FAR: Duration = Duration::from_secs(30 * 24 * 3600);
/// A hub that does not take what it has just given is not asked for another one all the time.
const AFTER_ROLLING_BACK: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::TlsFault;

    #[test]
    fn a_certificate_that_has_not_begun_is_named_as_a_clock_problem() {
        let (starts, unset) = (Timestamp::constant(1_700_000_000, 0), Timestamp::UNIX_EPOCH);
        let refused = || HubError::Tls {
            url: "https://hub".into(),
            fault: TlsFault::IdentityRefused("bad certificate".into()),
        };
        let blamed = blame_clock(refused(), starts, unset).to_string();
        assert!(blamed.contains("clock of this machine is behind: it says 1970-01-01T00:00:00Z"));
        let right = blame_clock(refused(), starts, starts).to_string();
        assert!(!right.contains("clock"), "{right}");
        let lost = blame_clock(HubError::Lost("reset".into()), starts, unset);
        assert!(!lost.to_string().contains("clock"));
    }
}
