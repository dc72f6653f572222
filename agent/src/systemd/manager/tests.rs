use super::super::fake::{Fake, Fate};
use super::*;
use crate::consumers::names::SignalName;

fn unit() -> UnitName {
    "uplink.service".parse().unwrap()
}

fn hup() -> SignalName {
    "HUP".parse().unwrap()
}

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

/// systemd with one unit in this state.
fn fake(active: &'static str) -> Fake {
    let fake = Fake::start();
    fake.put("uplink.service", "loaded", active);
    fake
}

/// The jobs and signals that were asked for.
fn done(fake: &mut Fake) -> Vec<String> {
    let calls = fake.all_calls();
    let mut members = calls
        .iter()
        .filter_map(|call| call.split(' ').next())
        .map(str::to_owned);
    members
        .by_ref()
        .filter(|member| member.ends_with("Unit") && member != "LoadUnit" && member != "GetUnit")
        .collect()
}

#[tokio::test]
async fn an_active_unit_is_reloaded_restarted_and_signalled() {
    let mut fake = fake("active");
    let manager = fake.manager();
    manager.reload(&unit()).await.unwrap();
    manager.restart(&unit()).await.unwrap();
    manager.try_restart(&unit()).await.unwrap();
    manager.signal_main(&unit(), hup()).await.unwrap();
    let expected = ["ReloadUnit", "RestartUnit", "TryRestartUnit", "KillUnit"];
    assert_eq!(done(&mut fake), expected);
}

#[tokio::test]
async fn a_job_that_ends_before_its_call_is_answered_is_not_waited_for_in_vain() {
    let fake = fake("active");
    fake.fate(Fate::AtOnce("done"));
    fake.fate(Fate::AtOnce("failed"));
    fake.manager().reload(&unit()).await.unwrap();
    let error = fake.manager().reload(&unit()).await.unwrap_err();
    assert!(matches!(error, ManagerError::Job { .. }), "{error}");
}

#[tokio::test]
async fn a_unit_that_does_not_run_has_nothing_to_hear() {
    for state in ["inactive", "failed", "deactivating", "maintenance"] {
        let mut fake = fake(state);
        let manager = fake.manager();
        manager.reload(&unit()).await.unwrap();
        manager.try_restart(&unit()).await.unwrap();
        manager.signal_main(&unit(), hup()).await.unwrap();
        assert_eq!(done(&mut fake), [""; 0], "{state}");
        manager.restart(&unit()).await.unwrap();
        assert_eq!(done(&mut fake), ["RestartUnit"], "{state}");
    }
}

#[tokio::test]
async fn a_unit_that_stops_before_its_reload_has_nothing_to_hear() {
    let fake = fake("active");
    for result in ["invalid", "skipped"] {
        fake.fate(Fate::Ends(result));
        fake.manager().reload(&unit()).await.unwrap();
    }
    fake.fate(Fate::Ends("invalid"));
    fake.manager().restart(&unit()).await.unwrap_err();
}

#[tokio::test]
async fn a_unit_that_starts_hears_of_the_change_after_its_start() {
    let mut fake = fake("activating");
    fake.manager().reload(&unit()).await.unwrap();
    assert_eq!(done(&mut fake), ["ReloadUnit", "ReloadUnit"]);
    fake.manager().try_restart(&unit()).await.unwrap();
    assert_eq!(done(&mut fake), ["RestartUnit"]);
}

#[tokio::test]
async fn a_unit_that_starts_is_signalled_once_it_has_started() {
    for (end, heard) in [("active", &["KillUnit"][..]), ("failed", &[])] {
        let mut fake = fake("activating");
        let manager = fake.manager();
        let signalled = tokio::spawn(async move { manager.signal_main(&unit(), hup()).await });
        fake.called("Subscribe").await;
        // Whether it is looked at before this or after.
        tokio::task::yield_now().await;
        assert_eq!(done(&mut fake), [""; 0]);
        fake.set("uplink.service", end).await;
        signalled.await.unwrap().unwrap();
        assert_eq!(done(&mut fake), heard, "{end}");
    }
}

#[tokio::test]
async fn what_does_not_run_its_program_yet_has_nothing_to_hear() {
    for step in BEFORE_MAIN {
        let mut fake = fake("activating");
        fake.starts("simple", step);
        fake.manager().signal_main(&unit(), hup()).await.unwrap();
        assert_eq!(done(&mut fake), [""; 0], "{step}");
    }
}

#[tokio::test]
async fn a_unit_that_does_all_in_its_start_is_signalled_at_once() {
    let mut fake = fake("activating");
    fake.starts("oneshot", "start");
    fake.manager().signal_main(&unit(), hup()).await.unwrap();
    assert_eq!(done(&mut fake), ["KillUnit"]);
}

#[tokio::test]
async fn a_unit_that_is_not_there_is_named_with_what_to_do() {
    let fake = Fake::start();
    let manager = fake.manager();
    let errors = [
        manager.reload(&unit()).await.unwrap_err(),
        manager.restart(&unit()).await.unwrap_err(),
        manager.try_restart(&unit()).await.unwrap_err(),
        manager.signal_main(&unit(), hup()).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error, ManagerError::NoSuchUnit("uplink.service".to_owned()));
        let text = error.to_string();
        assert!(
            text.contains("uplink.service") && text.contains("daemon-reload"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn every_bad_end_of_a_job_is_told_with_its_result() {
    let fake = fake("active");
    for result in ["failed", "timeout", "dependency", "canceled", "frozen"] {
        fake.fate(Fate::Ends(result));
        let error = fake.manager().restart(&unit()).await.unwrap_err();
        assert!(matches!(&error, ManagerError::Job { result: told, .. } if told == result));
        assert!(error.to_string().contains("uplink.service"), "{error}");
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = fake("active");
    let bus = "org.freedesktop.DBus.Error";
    fake.fate(Fate::Refused("org.freedesktop.DBus.Error.AccessDenied"));
    fake.fate(Fate::Refused(
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    ));
    for _ in 0..2 {
        let error = fake.manager().reload(&unit()).await.unwrap_err();
        assert!(matches!(error, ManagerError::Denied(_)), "{bus}: {error}");
    }
    fake.fate(Fate::Refused(
        "org.freedesktop.systemd1.JobTypeNotApplicable",
    ));
    let error = fake.manager().reload(&unit()).await.unwrap_err();
    assert!(error.to_string().contains("ExecReload="), "{error}");
    fake.fate(Fate::Refused("org.freedesktop.systemd1.UnitMasked"));
    let error = fake.manager().restart(&unit()).await.unwrap_err();
    assert_eq!(error, ManagerError::Refused("as the test says".to_owned()));
}

#[tokio::test]
async fn a_running_unit_without_a_main_process_is_an_error() {
    let fake = fake("active");
    fake.no_main_process();
    let error = fake
        .manager()
        .signal_main(&unit(), hup())
        .await
        .unwrap_err();
    assert_eq!(error, ManagerError::NoMainProcess(unit()));
}

#[tokio::test]
async fn a_signal_goes_to_the_main_process_by_number() {
    let mut fake = fake("active");
    fake.manager().signal_main(&unit(), hup()).await.unwrap();
    let call = fake.called("KillUnit").await;
    assert!(call.contains("\"main\"") && call.contains('1'), "{call}");
}

#[tokio::test]
async fn without_a_bus_the_error_asks_for_systemd() {
    let mut fake = fake("active");
    let manager = fake.manager();
    fake.go_away();
    let error = manager.reload(&unit()).await.unwrap_err();
    assert!(matches!(error, ManagerError::Absent { .. }));
    assert!(
        error.to_string().contains("is systemd running here?"),
        "{error}"
    );
    fake.come_back();
    manager.reload(&unit()).await.unwrap();
    fake.owner(None).await;
    let error = manager.reload(&unit()).await.unwrap_err();
    assert!(matches!(error, ManagerError::Absent { .. }));
}

#[tokio::test]
async fn a_bus_that_dies_under_a_job_is_an_error_and_the_next_request_goes_through() {
    let fake = fake("active");
    fake.fate(Fate::BusDies);
    let manager = fake.manager();
    let error = manager.reload(&unit()).await.unwrap_err();
    assert!(matches!(error, ManagerError::Absent { .. }), "{error}");
    manager.reload(&unit()).await.unwrap();
}

#[tokio::test]
async fn a_request_leaves_no_connection_behind() {
    let mut fake = fake("active");
    fake.manager().reload(&unit()).await.unwrap();
    fake.called("Gone").await;
    assert!(fake.rules().is_empty());
}

#[tokio::test]
async fn a_hanging_systemd_holds_nothing_up_for_ever() {
    let members = [
        "Hello",
        "GetNameOwner",
        "AddMatch",
        "LoadUnit",
        "Get",
        "ReloadUnit",
    ];
    let all = members.map(|member| async move {
        let fake = fake("active");
        fake.mute(member);
        let error = fake.hasty().reload(&unit()).await.unwrap_err();
        let timed_out = matches!(error, ManagerError::Timeout { .. });
        assert!(timed_out || member == "Hello", "{member}: {error}");
    });
    futures_util::future::join_all(all).await;
    let fake = fake("active");
    fake.fate(Fate::Hangs);
    let error = fake.hasty().reload(&unit()).await.unwrap_err();
    assert!(matches!(error, ManagerError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn requests_do_not_wait_behind_each_other() {
    let mut fake = fake("active");
    fake.fate(Fate::Hangs);
    let manager = fake.manager();
    let hanging = tokio::spawn({
        let manager = manager.clone();
        async move { manager.reload(&unit()).await }
    });
    fake.called("ReloadUnit").await;
    manager.reload(&unit()).await.unwrap();
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn a_command_that_succeeds_is_done() {
    let mut fake = Fake::start();
    let argv = words("/bin/echo $HOME 100%");
    let user = Principal::Name("uplink".to_owned());
    let limit = Duration::from_secs(30);
    fake.manager()
        .run("Say it", &argv, Some(&user), limit)
        .await
        .unwrap();
    let call = fake.called("StartTransientUnit").await;
    assert!(call.contains("edge-secrets-action-"), "{call}");
    assert!(
        call.contains("\"/bin/echo\"") && call.contains("$$HOME"),
        "{call}"
    );
    assert!(call.contains("\"User\", <\"uplink\">"), "{call}");
    assert!(call.contains("30000000"), "{call}");
    for property in ["ExecStart", "TimeoutStartUSec", "CollectMode", "AddRef"] {
        assert!(call.contains(property), "{property}: {call}");
    }
    assert!(!call.contains("Environment"), "{call}");
    assert_eq!(done(&mut fake), [""; 0]);
}

#[tokio::test]
async fn a_command_that_fails_is_told_with_its_status() {
    let fake = Fake::start();
    let argv = words("/bin/false");
    let run = async |fate, result, status| {
        fake.fate(fate);
        fake.ending(result, status);
        let run = fake.manager();
        let error = run
            .run("Fail", &argv, None, Duration::from_secs(30))
            .await
            .unwrap_err();
        assert!(matches!(error, ManagerError::Command { .. }), "{error}");
        error.to_string()
    };
    let error = run(Fate::Ends("failed"), "exit-code", 3).await;
    assert!(
        error.contains("status 3") && error.contains("journalctl -u edge-"),
        "{error}"
    );
    let error = run(Fate::Ends("failed"), "signal", 9).await;
    assert!(error.contains("signal 9"), "{error}");
    let error = run(Fate::AtOnce("timeout"), "timeout", 15).await;
    assert!(error.contains("its time was over"), "{error}");
    let error = run(Fate::Ends("failed"), "resources", 0).await;
    assert!(error.contains("resources"), "{error}");
}

#[tokio::test]
async fn a_command_that_is_given_up_is_stopped() {
    let mut fake = Fake::start();
    fake.fate(Fate::Hangs);
    let manager = fake.manager();
    let argv = words("/bin/sleep 1000");
    let run = tokio::spawn(async move {
        manager
            .run("Hang", &argv, None, Duration::from_secs(1000))
            .await
    });
    let started = fake.called("StartTransientUnit").await;
    run.abort();
    let stopped = fake.called("StopUnit").await;
    let name = stopped
        .split('"')
        .find(|part| part.starts_with("edge-secrets-action-"))
        .unwrap();
    assert!(started.contains(name), "{started} {stopped}");
}

#[tokio::test]
async fn a_command_whose_bus_dies_is_stopped_over_another_connection() {
    let mut fake = Fake::start();
    fake.fate(Fate::BusDies);
    let argv = words("/bin/sleep 1000");
    let run = fake.manager();
    let error = run
        .run("Hang", &argv, None, Duration::from_secs(1000))
        .await
        .unwrap_err();
    assert!(matches!(error, ManagerError::Absent { .. }), "{error}");
    fake.called("StopUnit").await;
}

#[tokio::test]
async fn an_empty_command_and_one_with_a_zero_byte_are_refused() {
    let mut fake = Fake::start();
    let limit = Duration::from_secs(30);
    let zero = vec!["/bin/echo".to_owned(), "a\0b".to_owned()];
    for argv in [Vec::new(), zero] {
        let error = fake.manager().run("Refuse", &argv, None, limit).await;
        assert!(matches!(error, Err(ManagerError::Refused(_))), "{error:?}");
    }
    assert_eq!(fake.all_calls(), [""; 0]);
}

#[tokio::test]
async fn only_a_restart_of_the_own_unit_is_one() {
    let fake = Fake::start();
    let manager = fake.manager();
    let cases = [(None, false), (Some("stop"), false), (Some("start"), false)];
    let restarts = [(Some("restart"), true), (Some("try-restart"), true)];
    for (job, restarts) in cases.into_iter().chain(restarts) {
        fake.own_job(job);
        assert_eq!(manager.restarts().await.unwrap(), restarts, "{job:?}");
    }
}

#[test]
fn what_is_not_known_is_neither_present_nor_absent() {
    assert_eq!(presence("active"), Presence::Present);
    assert_eq!(presence("deactivating"), Presence::Present);
    assert_eq!(presence("failed"), Presence::Absent);
    assert_eq!(presence("dreaming"), Presence::Unknown);
}
