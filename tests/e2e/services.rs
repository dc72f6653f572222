//! What a node's administrator says of services: profiles, on-change actions, credentials.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use edge_secrets_tests::canary::Canary;
use edge_secrets_tests::samples::{plain_service, policy, service};
use edge_secrets_tests::unit::{Loaded, load};
use edge_secrets_tests::{ORG, TestAgent, TestHub, wait};
use libtest_mimic::Trial;
use serde_json::Value;

pub(crate) fn trials() -> Vec<Trial> {
    crate::trials![
        a_profile_shapes_files_and_an_edited_one_shapes_them_anew,
        a_wrong_profile_is_named_and_its_last_good_version_stays,
        a_wrong_profile_touches_no_other_one,
        a_directory_of_profiles_swapped_by_a_link_is_seen,
        an_unknown_owner_fails_that_deployment_alone,
        a_template_that_cannot_be_rendered_leaves_the_old_generation,
        a_command_hears_of_changes_after_the_swap_and_gets_no_value,
        a_hanging_action_is_reported_and_blocks_nobody,
        an_action_that_was_cut_off_is_done_after_a_restart,
        a_unit_waits_for_its_credential_and_gets_it,
        a_unit_that_no_profile_names_is_refused,
        a_credential_that_never_comes_fails_closed,
        units_that_wait_when_the_agent_stops_are_refused_rather_than_given_nothing,
        consumers_of_credentials_alone_have_no_files_to_look_at,
    ]
}

fn a_profile_shapes_files_and_an_edited_one_shapes_them_anew() {
    let hub = TestHub::start();
    let agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(
        &agent,
        "uplink.yaml",
        "mode: \"0440\"\nformat: env\nsecrets:\n  raw: { format: value_only, mode: \"0400\" }\n\
         templates:\n- name: uplink.conf\n  text: |\n    user = {{ secrets.cred.value }}\n    pw = {{ secrets.raw.value }}\n",
    );
    let mut agent = agent;
    agent.run();
    let operator = hub.operator();
    operator.set("cred", "alice smith");
    operator.set("raw", "p$w");
    operator.publish_service(&plain_service(URL, &["cred", "raw"]));
    let bound = [("cred", "cred"), ("raw", "raw")];
    operator.publish_policy("uplink", &policy(URL, &[], &bound));
    let dir = agent.consumer(URL, "main");
    wait::content(&dir.join("cred"), b"value=\"alice smith\"\n");
    wait::content(&dir.join("raw"), b"p$w");
    wait::content(&dir.join("uplink.conf"), b"user = alice smith\npw = p$w\n");
    assert_eq!(mode(&dir.join("cred")), 0o440);
    assert_eq!(mode(&dir.join("raw")), 0o400);
    assert_eq!(mode(&dir.join("uplink.conf")), 0o440);
    operator.set("raw", "q$w");
    wait::content(&dir.join("uplink.conf"), b"user = alice smith\npw = q$w\n");

    profile(&agent, "uplink.yaml", "format: fields\n");
    wait::content(&dir.join("cred/value"), b"alice smith");
    wait::content(&dir.join("raw/value"), b"q$w");
    wait::gone(&dir.join("uplink.conf"));
    fs::remove_file(profiles(&agent).join("uplink.yaml")).expect("removed");
    wait::content(&dir.join("cred"), b"alice smith");
}

fn a_wrong_profile_is_named_and_its_last_good_version_stays() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(&agent, "uplink.yaml", "mode: \"0440\"\n");
    agent.run();
    let file = deploy(&hub, &agent, "one");
    assert_eq!(mode(&file), 0o440);
    profile(&agent, "uplink.yaml", "mode: \"0440\"\nowmer: root\n");
    agent.await_status("the wrong profile is named", |status| {
        let problem = &status["profile_problems"][0];
        problem["effect"] == "former_stays"
            && problem["line"] == 3
            && problem["reason"]
                .as_str()
                .is_some_and(|text| text.contains("owmer"))
    });
    hub.operator().set("cred", "two");
    wait::content(&file, b"two");
    assert_eq!(mode(&file), 0o440, "the last good profile stays in force");
    agent.kill();
    agent.run();
    hub.operator().set("cred", "three");
    wait::content(&file, b"three");
    assert_eq!(mode(&file), 0o440, "over a restart as well");
    profile(&agent, "uplink.yaml", "mode: \"0400\"\n");
    wait::until(&file, "the mended profile is in force", || {
        mode(&file) == 0o400
    });
    agent.await_status("nothing is wrong", |status| {
        status["profile_problems"].is_null()
    });
}

fn a_wrong_profile_touches_no_other_one() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    fs::create_dir_all(profiles(&agent)).expect("a directory");
    fs::write(profiles(&agent).join("a.yaml"), ": [ not yaml").expect("written");
    fs::write(
        profiles(&agent).join("of-nobody.yaml"),
        "service: myorg/com.example.absent\nowner: nobody\n",
    )
    .expect("written");
    profile(&agent, "uplink.yaml", "mode: \"0440\"\n");
    agent.run();
    let file = deploy(&hub, &agent, "one");
    assert_eq!(mode(&file), 0o440);
    agent.await_status("the wrong file is named", |status| {
        status["profile_problems"][0]["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("a.yaml"))
    });
}

fn a_directory_of_profiles_swapped_by_a_link_is_seen() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let etc = profiles(&agent).parent().expect("a parent").to_owned();
    for (version, mode) in [("v1", "0440"), ("v2", "0444")] {
        let dir = etc.join(version);
        fs::create_dir(&dir).expect("a directory");
        let text = format!("service: {ORG}/{URL}\nmode: \"{mode}\"\n");
        fs::write(dir.join("uplink.yaml"), text).expect("written");
    }
    symlink("v1", profiles(&agent)).expect("linked");
    agent.run();
    let file = deploy(&hub, &agent, "one");
    assert_eq!(mode(&file), 0o440);
    symlink("v2", etc.join("next")).expect("linked");
    fs::rename(etc.join("next"), profiles(&agent)).expect("swapped");
    wait::until(&file, "the other profile is in force", || {
        mode(&file) == 0o444
    });
    agent.await_status("a mode for the world is warned about", |status| {
        status["profile_problems"][0]["effect"] == "warning"
    });
}

fn an_unknown_owner_fails_that_deployment_alone() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(&agent, "uplink.yaml", "owner: no-such-user-here\n");
    agent.run();
    let operator = hub.operator();
    operator.set("cred", "one");
    for url in [URL, OTHER] {
        operator.publish_service(&plain_service(url, &["cred"]));
        operator.publish_policy(url, &policy(url, &[], &[("cred", "cred")]));
    }
    wait::content(&agent.consumer(OTHER, "main").join("cred"), b"one");
    agent.await_status("the owner is named", |status| {
        let service = of(status, URL);
        service["state"] == "failed"
            && service["error"]["detail"]
                .as_str()
                .is_some_and(|text| text.contains("no-such-user-here"))
    });
    assert!(!agent.consumer(URL, "main").join("cred").exists());
    profile(&agent, "uplink.yaml", "mode: \"0400\"\n");
    wait::content(&agent.consumer(URL, "main").join("cred"), b"one");
}

fn a_template_that_cannot_be_rendered_leaves_the_old_generation() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let template = |field: &str| {
        format!("templates: [ {{ name: conf, text: \"{{{{ secrets.cred.{field} }}}}\" }} ]\n")
    };
    profile(&agent, "uplink.yaml", &template("value"));
    agent.run();
    let canary = Canary::new();
    let file = deploy(&hub, &agent, &canary.value());
    let conf = file.with_file_name("conf");
    wait::content(&conf, canary.value().as_bytes());
    profile(&agent, "uplink.yaml", &template("absent"));
    agent.await_status("the template's fault is named, and no value", |status| {
        let service = of(status, URL);
        let text = service["error"]["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        service["state"] == "failed" && text.contains("absent") && !text.contains(&canary.value())
    });
    wait::content(&conf, canary.value().as_bytes());
    wait::content(&file, canary.value().as_bytes());
    assert!(!agent.log_text().contains(&canary.value()));
}

fn a_command_hears_of_changes_after_the_swap_and_gets_no_value() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let heard = agent.place().join("heard");
    let file = agent.consumer(URL, "main").join("cred");
    let script = script(
        &agent,
        "tell",
        &format!(
            "{{ cat {file}; echo; echo \"args: $*\"; env; }} > {heard}.new && mv {heard}.new {heard}",
            file = file.display(),
            heard = heard.display(),
        ),
    );
    let command = format!(
        "on_change: {{ command: [{}, told], debounce: 1ms }}\n",
        script.display()
    );
    profile(&agent, "uplink.yaml", &command);
    agent.run();
    for _ in 0..2 {
        let canary = Canary::new();
        deploy(&hub, &agent, &canary.value());
        wait::until(&heard, "the command has read the new value", || {
            fs::read_to_string(&heard).is_ok_and(|text| text.starts_with(&canary.value()))
        });
        let text = fs::read_to_string(&heard).expect("readable");
        assert_eq!(
            text.matches(&canary.value()).count(),
            1,
            "in the file alone: {text}"
        );
        assert!(text.contains("args: told"), "{text}");
    }
    agent.await_status("the action is done", |status| {
        of(status, URL)["consumers"][0]["on_change"]["state"] == "done"
    });
}

fn a_hanging_action_is_reported_and_blocks_nobody() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let script = script(&agent, "hang", "exec sleep 1000");
    let hanging = format!(
        "on_change: {{ command: [{}], debounce: 1ms, timeout: 300ms }}\n",
        script.display()
    );
    profile(&agent, "uplink.yaml", &hanging);
    agent.run();
    let file = deploy(&hub, &agent, "one");
    agent.await_status("the action fails", |status| {
        let action = &of(status, URL)["consumers"][0]["on_change"];
        action["state"] == "failing" && action["error"].as_str().is_some_and(|e| !e.is_empty())
    });
    let operator = hub.operator();
    operator.publish_service(&plain_service(OTHER, &["cred"]));
    operator.publish_policy("other", &policy(OTHER, &[], &[("cred", "cred")]));
    wait::content(&agent.consumer(OTHER, "main").join("cred"), b"one");
    operator.set("cred", "two");
    wait::content(&file, b"two");
    hub.admin()
        .await_rollout("uplink", "the hub knows of the failing action", |rollout| {
            rollout["nodes"][0]["state"] == "applied"
                && rollout["nodes"][0]["error"]["detail"]
                    .as_str()
                    .is_some_and(|text| text.contains("on-change"))
        });
}

fn an_action_that_was_cut_off_is_done_after_a_restart() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    let (allowed, done) = (agent.place().join("allowed"), agent.place().join("done"));
    let script = script(
        &agent,
        "tell",
        &format!("test -e {} && touch {}", allowed.display(), done.display()),
    );
    let command = format!(
        "on_change: {{ command: [{}], debounce: 1ms }}\n",
        script.display()
    );
    profile(&agent, "uplink.yaml", &command);
    agent.run();
    deploy(&hub, &agent, "one");
    agent.await_status("the action fails", |status| {
        of(status, URL)["consumers"][0]["on_change"]["state"] == "failing"
    });
    agent.kill();
    fs::write(&allowed, "").expect("written");
    agent.run();
    wait::until(&done, "what was not done is done", || done.exists());
    agent.await_status("the action is done", |status| {
        of(status, URL)["consumers"][0]["on_change"]["state"] == "done"
    });
    // What is done is not done again.
    fs::remove_file(&done).expect("removed");
    agent.kill();
    agent.run();
    agent.await_service(URL);
    assert!(!done.exists());
}

fn a_unit_waits_for_its_credential_and_gets_it() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(
        &agent,
        "uplink.yaml",
        "consumer: main\nsystemd:\n  units: [uplink.service, \"worker@.service\"]\n  credentials: { password: cred }\n",
    );
    agent.run();
    agent.await_hub("connected");
    let socket = agent.runtime_dir().join("credentials.sock");
    let early = load(&socket, "uplink.service", "cred");
    let instance = load(&socket, "worker@7.service", "password");
    deploy(&hub, &agent, "hunter2");
    for waiting in [early, instance] {
        let loaded = waiting.join().expect("it ends").expect("readable");
        assert_eq!(loaded, Loaded::Value(b"hunter2".to_vec()));
    }
    hub.operator().set("cred", "hunter3");
    wait::content(&agent.consumer(URL, "main").join("cred"), b"hunter3");
    let now = load(&socket, "uplink.service", "cred")
        .join()
        .expect("it ends");
    assert_eq!(now.expect("readable"), Loaded::Value(b"hunter3".to_vec()));
}

fn a_unit_that_no_profile_names_is_refused() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(
        &agent,
        "uplink.yaml",
        "systemd: { units: [uplink.service] }\n",
    );
    agent.run();
    deploy(&hub, &agent, "hunter2");
    let socket = agent.runtime_dir().join("credentials.sock");
    for (unit, credential) in [("thief.service", "cred"), ("uplink@1.service", "cred")] {
        let loaded = load(&socket, unit, credential).join().expect("it ends");
        assert_eq!(loaded.expect("readable"), Loaded::Refused, "{unit}");
    }
}

fn a_credential_that_never_comes_fails_closed() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(
        &agent,
        "uplink.yaml",
        "systemd: { units: [uplink.service], wait: 200ms }\n",
    );
    agent.run();
    agent.await_hub("connected");
    let socket = agent.runtime_dir().join("credentials.sock");
    let loaded = load(&socket, "uplink.service", "cred")
        .join()
        .expect("it ends");
    assert_eq!(loaded.expect("readable"), Loaded::Refused);
}

fn units_that_wait_when_the_agent_stops_are_refused_rather_than_given_nothing() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(
        &agent,
        "uplink.yaml",
        "systemd: { units: [uplink.service], wait: 10m }\n",
    );
    agent.run();
    agent.await_hub("connected");
    let waiting = load(
        &agent.runtime_dir().join("credentials.sock"),
        "uplink.service",
        "cred",
    );
    agent.await_log("uplink.service");
    agent.stop();
    let loaded = waiting.join().expect("it ends").expect("readable");
    assert_eq!(loaded, Loaded::Refused);
}

fn consumers_of_credentials_alone_have_no_files_to_look_at() {
    let hub = TestHub::start();
    let mut agent = TestAgent::enrolled(&hub, "edge-01", &[]);
    profile(
        &agent,
        "uplink.yaml",
        "files: false\nsystemd: { units: [uplink.service] }\n",
    );
    agent.run();
    let operator = hub.operator();
    operator.set("cred", "hunter2");
    operator.publish_service(&service(
        URL,
        "1.0.0",
        &[("main", &[("cred", Some("value_only"))])],
    ));
    operator.publish_policy("uplink", &policy(URL, &[], &[("cred", "cred")]));
    agent.await_hub("connected");
    agent.await_service(URL);
    assert_eq!(mode(&agent.consumer(URL, "main")), 0o700);
    let socket = agent.runtime_dir().join("credentials.sock");
    let loaded = load(&socket, "uplink.service", "cred")
        .join()
        .expect("it ends");
    assert_eq!(
        loaded.expect("readable"),
        Loaded::Value(b"hunter2".to_vec())
    );
}

/// Deploys the service, or sets its secret anew, and waits until that can be read.
fn deploy(hub: &TestHub, agent: &TestAgent, value: &str) -> PathBuf {
    let operator = hub.operator();
    operator.set("cred", value);
    operator.publish_service(&plain_service(URL, &["cred"]));
    operator.publish_policy("uplink", &policy(URL, &[], &[("cred", "cred")]));
    let file = agent.consumer(URL, "main").join("cred");
    wait::content(&file, value.as_bytes());
    file
}

fn profiles(agent: &TestAgent) -> PathBuf {
    agent.config().with_file_name("services.d")
}

/// Puts a profile of the service in place by a rename, as editors do.
fn profile(agent: &TestAgent, name: &str, rest: &str) {
    let dir = profiles(agent);
    fs::create_dir_all(&dir).expect("a directory");
    let fresh = dir.join(".new");
    fs::write(&fresh, format!("service: {ORG}/{URL}\n{rest}")).expect("written");
    fs::rename(&fresh, dir.join(name)).expect("renamed");
}

fn script(agent: &TestAgent, name: &str, body: &str) -> PathBuf {
    let path = agent.place().join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    path
}

fn of<'s>(status: &'s Value, url: &str) -> &'s Value {
    let services = status["services"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    services
        .iter()
        .find(|service| service["service"]["url"] == url)
        .unwrap_or(&Value::Null)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o7777)
}

const URL: &str = "com.example.uplink";
const OTHER: &str = "com.example.other";
