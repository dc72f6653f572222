//! 1 to 23: `hzn secretsmanager` and the calls behind it, through `edge-secrets sm`.

use edge_secrets_tests::operator::Ended;
use edge_secrets_tests::{ORG, Operator, TestHub, TestVault};
use http::Method;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(super) fn trials() -> Vec<Trial> {
    crate::trials![
        oh_01_an_org_secret_that_is_absent_does_not_exist,
        oh_02_an_org_secret_that_is_added_is_listed_exists_and_is_read,
        oh_03_an_org_secret_that_is_overwritten_has_the_new_value,
        oh_04_an_org_secret_that_is_removed_does_not_exist,
        oh_05_a_users_secret_that_is_absent_does_not_exist,
        oh_06_a_users_secret_that_is_added_is_listed_exists_and_is_read,
        oh_07_a_users_secret_that_is_overwritten_has_the_new_value,
        oh_08_a_users_secret_that_is_removed_does_not_exist,
        oh_09_names_of_two_and_three_parts_are_listed,
        oh_10_a_directory_is_no_secret,
        oh_11_another_users_secret_is_not_listed,
        oh_12_another_users_secret_is_not_removed,
        oh_13_what_is_absent_is_nothing_to_remove,
        oh_14_what_is_absent_is_not_read,
        oh_15_who_is_no_admin_lists_org_secrets_and_does_not_read_them,
        oh_16_an_admin_does_not_read_a_users_secret,
        oh_17_an_admin_does_not_write_another_users_secret,
        oh_18_a_name_that_is_user_alone_wants_a_user,
        oh_19_a_users_directory_is_not_read,
        oh_20_wrong_credentials_are_refused,
        oh_21_another_organisation_is_closed,
        oh_22_a_deletion_is_answered_with_success,
        oh_23_the_health_of_the_secrets_manager_is_shown,
    ]
}

/// `edge-secrets sm secret …`
pub(super) fn sm(operator: &Operator, args: &[&str], stdin: &str) -> Ended {
    operator.run(&[&["sm", "secret"], args].concat(), stdin)
}

/// The same, which must go well. What it printed.
pub(super) fn sm_ok(operator: &Operator, args: &[&str], stdin: &str) -> String {
    let ended = sm(operator, args, stdin);
    assert_eq!(ended.code, 0, "sm secret {args:?}: {ended:?}");
    ended.stdout
}

/// Adds as scripts do, by standard input.
pub(super) fn add(operator: &Operator, name: &str, key: &str, value: &str) {
    let out = sm_ok(
        operator,
        &["add", "--secretKey", key, "-O", "-f-", name],
        value,
    );
    assert_eq!(
        out,
        format!("Secret \"{name}\" successfully added to the secrets manager.\n")
    );
}

fn refused(operator: &Operator, args: &[&str], words: &str) {
    let ended = sm(operator, args, "value");
    assert_ne!(ended.code, 0, "{args:?}: {ended:?}");
    assert!(ended.stderr.contains(words), "{args:?}: {ended:?}");
}

fn exists(operator: &Operator, name: &str) -> bool {
    let ended = sm(operator, &["list", name], "");
    let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let exists = told == json!({ "exists": true });
    assert!(exists || told == json!({ "exists": false }), "{ended:?}");
    assert_eq!(ended.code, i32::from(!exists), "{ended:?}");
    exists
}

fn names(operator: &Operator, args: &[&str]) -> Value {
    serde_json::from_str(&sm_ok(operator, &[&["list"], args].concat(), "")).expect("JSON")
}

fn read(operator: &Operator, name: &str) -> Value {
    serde_json::from_str(&sm_ok(operator, &["read", name], "")).expect("JSON")
}

/// What the original tells of one secret in the four behaviours, for the organisation's and a user's.
const ORGS: (&str, &str) = ("test-password", "");
const USERS: (&str, &str) = ("user/admin/test-password", "user/admin");

fn absent((name, _): (&str, &str)) {
    let hub = TestHub::start();
    assert!(!exists(&hub.operator(), name));
}

fn added((name, scope): (&str, &str)) {
    let hub = TestHub::start();
    let admin = hub.operator();
    // As the script of the original has it, value and password on the command line.
    let args = [
        "add",
        "--secretKey",
        "password",
        "-d",
        "password123",
        "-o",
        ORG,
        "-u",
        "admin:pw",
        name,
    ];
    let ended = sm(&admin, &args, "");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.contains("warning: other processes"),
        "{ended:?}"
    );
    assert_eq!(names(&admin, &[scope]), json!(["test-password"]));
    assert!(exists(&admin, name));
    assert_eq!(
        read(&admin, name),
        json!({ "key": "password", "value": "password123" })
    );
}

fn overwritten((name, _): (&str, &str)) {
    let hub = TestHub::start();
    let admin = hub.operator();
    add(&admin, name, "password", "password123");
    add(&admin, name, "password", "password321");
    assert_eq!(read(&admin, name)["value"], "password321");
}

fn removed((name, scope): (&str, &str)) {
    let hub = TestHub::start();
    let admin = hub.operator();
    add(&admin, name, "password", "password123");
    let out = sm_ok(&admin, &["remove", "-f", name], "");
    assert_eq!(
        out,
        format!("Secret \"{name}\" successfully deleted from the secrets manager.\n")
    );
    assert!(!exists(&admin, name));
    assert_eq!(names(&admin, &[scope]), json!([]));
}

fn oh_01_an_org_secret_that_is_absent_does_not_exist() {
    absent(ORGS);
}

fn oh_02_an_org_secret_that_is_added_is_listed_exists_and_is_read() {
    added(ORGS);
}

fn oh_03_an_org_secret_that_is_overwritten_has_the_new_value() {
    overwritten(ORGS);
}

fn oh_04_an_org_secret_that_is_removed_does_not_exist() {
    removed(ORGS);
}

fn oh_05_a_users_secret_that_is_absent_does_not_exist() {
    absent(USERS);
}

fn oh_06_a_users_secret_that_is_added_is_listed_exists_and_is_read() {
    added(USERS);
}

fn oh_07_a_users_secret_that_is_overwritten_has_the_new_value() {
    overwritten(USERS);
}

fn oh_08_a_users_secret_that_is_removed_does_not_exist() {
    removed(USERS);
}

fn oh_09_names_of_two_and_three_parts_are_listed() {
    let (_hub, admin) = with_parts();
    assert_eq!(
        names(&admin, &[]),
        json!(["test/more-passwords/password2", "test/password1"])
    );
    // With -n as well, where the original takes two parts for a user's directory.
    sm_ok(
        &admin,
        &[
            "add",
            "--secretKey",
            "k",
            "-f-",
            "-n",
            "edge-01",
            "test/password1",
        ],
        "v",
    );
    assert_eq!(names(&admin, &["-n", "edge-01"]), json!(["test/password1"]));
    assert!(exists(&admin, "node/edge-01/test/password1"));
    assert_eq!(names(&admin, &["-a"]).as_array().map(Vec::len), Some(3));
}

fn oh_10_a_directory_is_no_secret() {
    let (_hub, admin) = with_parts();
    assert!(!exists(&admin, "test"));
    assert!(!exists(&admin, "test/more-passwords"));
    assert!(exists(&admin, "/test/password1"));
}

fn with_parts() -> (TestHub, Operator) {
    let hub = TestHub::start();
    let admin = hub.operator();
    for name in ["test/password1", "test/more-passwords/password2"] {
        add(&admin, name, "password", "password123");
    }
    (hub, admin)
}

/// An organisation's secret, one of `user1`'s, and two who are no admins.
fn with_users() -> (TestHub, Operator, Operator) {
    let hub = TestHub::start();
    let (one, two) = (hub.user("user1", "user"), hub.user("user2", "user"));
    add(&hub.operator(), "test-password", "password", "password123");
    add(&one, "user/user1/test-password", "password", "password123");
    (hub, one, two)
}

fn oh_11_another_users_secret_is_not_listed() {
    let (_hub, _, two) = with_users();
    refused(
        &two,
        &["list", "user/user1/test-password"],
        "Permission denied",
    );
    refused(&two, &["list", "user/user1"], "Permission denied");
}

fn oh_12_another_users_secret_is_not_removed() {
    let (_hub, one, two) = with_users();
    let args = ["remove", "-f", "user/user1/test-password"];
    refused(&two, &args, "Permission denied");
    assert!(exists(&one, "user/user1/test-password"));
}

fn oh_13_what_is_absent_is_nothing_to_remove() {
    let hub = TestHub::start();
    for name in ["fake-password", "user/admin/fake-password"] {
        refused(
            &hub.operator(),
            &["remove", "-f", name],
            "nothing to remove",
        );
    }
}

fn oh_14_what_is_absent_is_not_read() {
    let hub = TestHub::start();
    let words = "No secret(s) found under secret name \"fake-password\"";
    refused(&hub.operator(), &["read", "fake-password"], words);
}

fn oh_15_who_is_no_admin_lists_org_secrets_and_does_not_read_them() {
    let (_hub, one, _) = with_users();
    assert!(exists(&one, "test-password"));
    assert_eq!(names(&one, &[]), json!(["test-password"]));
    refused(&one, &["read", "test-password"], "Permission denied");
    let args = ["add", "--secretKey", "k", "-O", "-f-", "test-password"];
    refused(&one, &args, "Permission denied");
    refused(
        &one,
        &["remove", "-f", "test-password"],
        "Permission denied",
    );
}

fn oh_16_an_admin_does_not_read_a_users_secret() {
    let (hub, ..) = with_users();
    let words = "Permission denied, user \"admin\" cannot read secret \"user/user1/test-password\"";
    refused(
        &hub.operator(),
        &["read", "user/user1/test-password"],
        words,
    );
}

fn oh_17_an_admin_does_not_write_another_users_secret() {
    let (hub, one, _) = with_users();
    for name in ["user/user1/fake-password", "user/user1/test-password"] {
        let args = ["add", "--secretKey", "password", "-O", "-f-", name];
        refused(&hub.operator(), &args, "Permission denied");
    }
    assert_eq!(
        read(&one, "user/user1/test-password")["value"],
        "password123"
    );
    // But lists and removes it.
    assert!(exists(&hub.operator(), "user/user1/test-password"));
    sm_ok(
        &hub.operator(),
        &["rm", "-f", "user/user1/test-password"],
        "",
    );
    assert!(!exists(&one, "user/user1/test-password"));
}

fn oh_18_a_name_that_is_user_alone_wants_a_user() {
    let hub = TestHub::start();
    for verb in [
        &["read", "user"][..],
        &["list", "user"],
        &["rm", "-f", "user"],
    ] {
        refused(&hub.operator(), verb, "User must be specified");
    }
}

fn oh_19_a_users_directory_is_not_read() {
    let hub = TestHub::start();
    let words = "Incorrect secret name provided: \"user/admin\" cannot refer to a secret";
    refused(&hub.operator(), &["read", "user/admin"], words);
    let args = ["add", "--secretKey", "k", "-f-", "user/admin"];
    refused(&hub.operator(), &args, "Incorrect secret name");
}

fn oh_20_wrong_credentials_are_refused() {
    let hub = TestHub::start();
    let admin = hub.operator();
    let args = ["list", "-o", ORG, "-u", "fake:fakepw", "test-password"];
    refused(&admin, &args, "Failed to authenticate");
    // A certificate that was good.
    let gone = hub.user("gone", "user");
    admin.ok(&["user", "rm", "gone"], "");
    let ended = sm(&gone, &["list"], "");
    assert_eq!(ended.code, 77, "{ended:?}");
}

fn oh_21_another_organisation_is_closed() {
    let hub = TestHub::start();
    let admin = hub.operator();
    for args in [&["list", "-o", "other"][..], &["read", "-o", "other", "x"]] {
        let ended = sm(&admin, args, "");
        assert_eq!(ended.code, 77, "{ended:?}");
        assert!(ended.stderr.contains("Permission denied"), "{ended:?}");
    }
    let denied = hub.admin().client.get("/v1/orgs/other/secrets");
    assert_eq!(denied.expect("an answer").status, 403);
    let records = admin.audit(&[("actor", "user/admin"), ("result", "denied")]);
    assert!(records.len() >= 3, "it is audited at home: {records:?}");
}

fn oh_22_a_deletion_is_answered_with_success() {
    let hub = TestHub::start();
    add(&hub.operator(), "secret1", "k", "v");
    let mut admin = hub.admin();
    let path = admin.path("secrets/secret1");
    let mut delete = || {
        admin
            .client
            .send(Method::DELETE, &path, &[], "")
            .expect("an answer")
    };
    assert_eq!(delete().status, 200);
    assert_eq!(delete().status, 404);
}

fn oh_23_the_health_of_the_secrets_manager_is_shown() {
    let vault = TestVault::start();
    let hub = TestHub::configured(|config| vault.configure(config, &["*"]));
    let admin = hub.operator();
    admin.ok(&["manager", "check", "vault"], "");
    let managers = admin.json(&["manager", "list"]);
    assert!(managers[0]["trouble"].is_null(), "{managers}");
    let calls = managers[0]["calls"].as_array().expect("calls");
    assert!(
        calls.iter().any(|call| call["result"] == "ok"),
        "{managers}"
    );
    drop(vault);
    let ended = admin.run(&["manager", "check", "vault"], "");
    assert_ne!(ended.code, 0, "{ended:?}");
    let managers = admin.json(&["manager", "list"]);
    assert_eq!(managers[0]["trouble"]["fault"], "unreachable", "{managers}");
}
