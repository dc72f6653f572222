//! Managers that fail in each way, with a value in what they answer: nothing of it stands anywhere but
//! on the node that it is for.

use std::fs;
use std::time::Duration;

use edge_secrets_fakes::secret_server::Item;
use edge_secrets_fakes::server::SLOW;
use edge_secrets_fakes::{App, Fault, Request, Response};
use edge_secrets_tests::hub::read_yaml;
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::scan::Scanner;
use edge_secrets_tests::{
    Canary, Operator, StandIn, TestAgent, TestHub, TestIbm, TestSecretServer, TestVault, wait,
};
use jiff::Timestamp;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{URL, bind, file};

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        no_failure_of_vault_shows_a_value,
        no_failure_of_ibm_cloud_shows_a_value,
        no_failure_of_secret_server_shows_a_value,
    ]
}

/// A manager whose answers are to hold the canary.
struct Case<'a, A: App> {
    manager: &'a StandIn<A>,
    /// What references call it.
    name: &'static str,
    /// The canary, for all nodes.
    shared: &'static str,
    /// A folder that has it.
    folder: &'static str,
    /// What is made for one node.
    leased: &'static str,
    /// The calls that make it: each alone goes wrong.
    making: &'static [fn(&Request) -> bool],
    /// Takes what is made back from the hub, so that it has to be made again.
    free: fn(&mut A),
    /// The calls by which the hub logs in.
    is_login: fn(&Request) -> bool,
    /// Ends the hub's session there.
    end_session: fn(&mut A, Timestamp),
}

fn no_failure_of_vault_shows_a_value() {
    let vault = TestVault::start();
    let canary = Canary::new();
    vault.put("team/db", &json!({ "value": canary.value() }));
    let hub = hub_over(|config| vault.configure(config, &["secret/team", "database/creds/app"]));
    let case = Case {
        manager: &vault,
        name: "vault",
        shared: "vault:team/db",
        folder: "vault:team/",
        leased: "vault:database/creds/app#password",
        making: &[|request| request.path.contains("/creds/")],
        free: |_| (),
        is_login: |request| request.path.contains("/auth/"),
        end_session: |vault, now| vault.end_tokens(now),
    };
    case.scan(&hub, &canary);
}

fn no_failure_of_ibm_cloud_shows_a_value() {
    let ibm = TestIbm::start();
    let canary = Canary::new();
    let shared = json!({ "secret_type": "arbitrary", "name": "db", "payload": canary.value() });
    ibm.seed(&shared);
    let leased = json!({ "secret_type": "iam_credentials", "name": "cos", "ttl": "12h",
        "access_groups": ["AccessGroupId-edge"] });
    ibm.seed(&leased);
    let paths = ["default/arbitrary", "default/iam_credentials"];
    let hub = hub_over(|config| ibm.configure(config, &paths));
    let case = Case {
        manager: &ibm,
        name: "ibm",
        shared: "ibm:default/arbitrary/db",
        folder: "ibm:default/",
        leased: "ibm:default/iam_credentials/cos#apikey",
        making: &[
            |request| matches!(request.segments().as_slice(), [_, _, secrets, _] if secrets == "secrets"),
        ],
        free: |_| (),
        is_login: |request| request.path == "/identity/token",
        end_session: |ibm, _| ibm.account.forget_tokens(),
    };
    case.scan(&hub, &canary);
}

fn no_failure_of_secret_server_shows_a_value() {
    let pim = TestSecretServer::start();
    let canary = Canary::new();
    pim.add("Team", "db", &[Item::password("value", &canary.value())]);
    let leased = pim.add("Team", "taken", &[Item::password("value", &canary.value())]);
    assert_eq!(leased, TAKEN);
    pim.secret(TAKEN, |secret| {
        secret.checkout = Some(Duration::from_secs(600));
    });
    let hub = hub_over(|config| {
        pim.configure(config, &["Team"]);
        config["managers"][0]["secret_server"]["checkout"] = true.into();
    });
    let case = Case {
        manager: &pim,
        name: "pim",
        shared: "pim:Team/db",
        folder: "pim:Team/",
        leased: "pim:Team/taken#value",
        making: &[
            |request| request.path.ends_with("/check-out"),
            |request| request.path.ends_with(&format!("/{TAKEN}")),
        ],
        free: |pim| pim.secret(TAKEN).checked_out = None,
        is_login: |request| request.path.ends_with("/oauth2/token"),
        end_session: |pim, _| pim.end_tokens(),
    };
    case.scan(&hub, &canary);
}

/// A hub that keeps no value, so that each look at one is a read, and waits briefly.
fn hub_over(configure: impl FnOnce(&mut serde_yaml::Value)) -> TestHub {
    let hub = TestHub::configured(|config| {
        configure(config);
        config["managers"][0]["cache"] = "0s".into();
        config["managers"][0]["timeout"] = "2s".into();
    });
    assert_eq!(read_yaml(&hub.config())["log"]["level"], "trace");
    hub
}

impl<A: App> Case<'_, A> {
    fn scan(&self, hub: &TestHub, canary: &Canary) {
        let agent = TestAgent::start(hub, "edge-01", &[]);
        let operator = hub.operator();
        bind(&operator, "uplink", URL, &[("cred", self.shared)]);
        wait::content(&file(&agent, "cred"), canary.value().as_bytes());
        hub.await_rollout("uplink", 1);
        let revealed = operator.ok(&["secret", "show", self.shared, "--reveal"], "");
        assert_eq!(revealed, canary.value());

        let mut said = Vec::new();
        for fault in faults(canary) {
            self.suffer_all_but_logins(hub, &fault, &mut said);
        }
        self.suffer_while_making(hub, canary, &mut said);
        self.suffer_at_the_login(hub, canary, &mut said);

        said.push(operator.ok(&["audit"], ""));
        said.push(operator.ok(&["audit", "-o", "json"], ""));
        said.push(format!("{:?}", agent.ended(&["status", "-o", "json"])));
        let scanner = Scanner::new(&[canary]);
        let text = said.join("\n");
        let commands = scanner.text(text.as_bytes(), "the commands' output");
        commands.assert_clean("what commands and metrics said");
        let files = scanner.files(hub.place());
        files.assert_clean("the hub's files and log");
        let files = scanner.files(agent.place());
        files.assert_clean("the agent's files and log");
        // What is delivered stays, and the scanner knows it when it sees it.
        assert_eq!(
            fs::read(file(&agent, "cred")).expect("it stays"),
            canary.value().as_bytes()
        );
        assert!(!scanner.files(agent.runtime_dir()).hits.is_empty());
    }

    /// Everything that operators ask while every call but logins goes wrong like this.
    fn suffer_all_but_logins(&self, hub: &TestHub, fault: &Fault, said: &mut Vec<String>) {
        let operator = hub.operator();
        let server = self.manager.server();
        let is_login = self.is_login;
        server.log.clear();
        let calls = move |request: &Request| !is_login(request);
        server.faults.when(calls, fault.clone());
        // First those that read: while the manager is left alone nothing is asked of it.
        let reveal = ["secret", "show", self.shared, "--reveal"];
        let revealed = operator.run(&reveal, "");
        let slow = matches!(fault, Fault::Slow(_));
        assert_eq!(revealed.code == 0, slow, "{fault:?}: {}", revealed.stderr);
        if !slow {
            said.push(revealed.stdout + &revealed.stderr);
        }
        let asked = server.log.count(|call| !call.path.contains("token"));
        assert!(asked > 0, "{fault:?}: it was not asked");
        let other = policy("com.example.other", &[], &[("cred", self.shared)]).to_string();
        for args in [
            &["secret", "show", self.shared][..],
            &["secret", "show", self.shared, "--reveal", "--version", "77"],
            &["secret", "versions", self.shared],
            &["secret", "list", self.folder],
            &["secret", "show", self.leased_whole()],
            &["policy", "publish", "other", "-", "--dry-run"],
            &["manager", "check", self.name],
        ] {
            let ended = operator.run(args, &other);
            said.push(ended.stdout + &ended.stderr);
        }
        look(hub, said);
        self.recover(hub);
    }

    /// What is made for one node, while its making alone goes wrong.
    fn suffer_while_making(&self, hub: &TestHub, canary: &Canary, said: &mut Vec<String>) {
        let operator = hub.operator();
        let url = "com.example.leased";
        operator.publish_service(&plain_service(url, &["cred"]));
        let policy = policy(url, &[], &[("cred", self.leased)]);
        for making in self.making {
            for fault in faults(canary) {
                let says_nothing = matches!(
                    fault,
                    Fault::Drop | Fault::Hang | Fault::Slow(_) | Fault::Html | Fault::Huge
                );
                if says_nothing {
                    continue;
                }
                self.manager.with(self.free);
                self.manager.server().faults.when(making, fault.clone());
                operator.publish_policy("leased", &policy);
                let mut admin = hub.admin();
                wait::until(&hub.log(), "its making fails", || {
                    let rollout = admin.get("policies/leased/rollout");
                    let standing = &rollout["nodes"][0]["secrets"][0];
                    // What was done although nobody heard of it may be made up for at once.
                    standing["trouble"].is_object() || standing["state"] == "ready"
                });
                look(hub, said);
                operator.ok(&["policy", "rm", "leased"], "");
                self.recover(hub);
                wait::until(&hub.log(), "nothing is being made any more", || {
                    operator.json(&["lease", "list"]) == json!([])
                });
            }
        }
    }

    /// The last of it: a refused login may keep the hub from the manager for a while.
    fn suffer_at_the_login(&self, hub: &TestHub, canary: &Canary, said: &mut Vec<String>) {
        let operator = hub.operator();
        for status in [200, 500, 400] {
            let fault = Fault::Answer(Response::json(status, &leak(&canary.value())));
            let (is_login, now) = (self.is_login, self.manager.now());
            self.manager.server().log.clear();
            // First: a login in between would be a good one.
            self.manager.server().faults.when(is_login, fault);
            self.manager.with(|app| (self.end_session)(app, now));
            for args in [
                &["manager", "check", self.name][..],
                &["secret", "show", self.shared],
            ] {
                let ended = operator.run(args, "");
                assert_ne!(ended.code, 0, "{args:?}: {}", ended.stdout);
                said.push(ended.stdout + &ended.stderr);
            }
            look(hub, said);
            self.manager.heal();
        }
    }

    /// All goes well again, as far as the hub knows too.
    fn recover(&self, hub: &TestHub) {
        self.manager.heal();
        let operator = hub.operator();
        wait::until(&hub.log(), "the hub speaks to it again", || {
            operator.run(&["secret", "show", self.shared], "").code == 0
        });
    }

    fn leased_whole(&self) -> &'static str {
        let (secret, _) = self.leased.split_once('#').expect("a field");
        secret
    }
}

/// What tells of the manager's trouble without asking it.
fn look(hub: &TestHub, said: &mut Vec<String>) {
    let operator: Operator = hub.operator();
    for args in [
        &["manager", "list"][..],
        &["explain", "edge-01", "-o", "json"],
        &["rollout", "uplink"],
        &["lease", "list", "-o", "json"],
    ] {
        said.push(operator.ok(args, ""));
    }
    said.push(hub.admin().metrics());
}

/// Each way in which a manager fails; where it says anything, it says the canary.
fn faults(canary: &Canary) -> Vec<Fault> {
    let (value, word) = (canary.value(), canary.word());
    let leak = leak(&value);
    let mut faults = vec![
        Fault::Drop,
        Fault::LoseAnswer,
        Fault::Hang,
        Fault::Slow(SLOW),
        Fault::Html,
        Fault::Truncated,
        Fault::Huge,
        Fault::WrongTypes,
    ];
    let mut answer = |response: Response| faults.push(Fault::Answer(response));
    for status in [400, 401, 403, 404, 409, 412, 429, 500, 503] {
        answer(Response::json(status, &leak));
    }
    for status in [301, 302, 307, 308] {
        let to = format!("https://{word}:{word}@manager.invalid/{word}?{word}={word}#{word}");
        answer(Response::json(status, &leak).with("location", &to));
    }
    // As an answer that all is well.
    answer(Response::json(200, &leak));
    answer(Response::json(200, &json!([value])));
    answer(Response::json(200, &json!(value)));
    answer(Response::text(200, "text/plain", value.clone()));
    answer(Response::text(500, "text/html", format!("<p>{value}")));
    answer(
        Response::json(503, &leak)
            .with("retry-after", word)
            .with("date", word)
            .with("content-language", word)
            .with("x-correlation-id", word),
    );
    faults
}

/// The canary in every member that any of the managers has in its answers.
fn leak(value: &str) -> Value {
    json!({
        "errors": [value],
        "warnings": [value],
        "error": value,
        "error_description": value,
        "errorCode": value,
        "errorMessage": value,
        "message": value,
        "messageDetail": value,
        "exceptionMessage": value,
        "trace": value,
        "status_code": value,
        "request_id": value,
        "lease_id": value,
        "lease_duration": value,
        "data": { "data": value, "metadata": value, "keys": value, "password": value },
        "auth": value,
        "id": value,
        "payload": value,
        "secrets": value,
        "versions": value,
        "records": value,
        "items": [{ "slug": value, "itemValue": value }],
        "access_token": [value],
        "expires_in": value,
    })
}

/// The number of the secret that is checked out.
const TAKEN: u64 = 1001;
