//! Which runtime directories are taken, and which are refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::world::{World, bindings, deployment, json, not_tmpfs, open};

#[test]
fn a_second_agent_is_refused() {
    let world = World::new();
    let error = world.try_open().unwrap_err().to_string();
    assert!(error.contains("another edge-secrets-agent"), "{error}");
}

#[test]
fn a_boot_has_one_mark_as_long_as_the_directory_is_there() {
    let mut world = World::new();
    let mark = world.reconciler().boot_mark().clone();
    world.restart();
    assert_eq!(*world.reconciler().boot_mark(), mark);
    fs::write(world.dir().join("lock"), "").unwrap();
    world.restart();
    assert_ne!(*world.reconciler().boot_mark(), mark);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let mut world = World::new();
    world.stop();
    fs::set_permissions(world.dir(), fs::Permissions::from_mode(0o775)).unwrap();
    let error = world.try_open().unwrap_err().to_string();
    assert!(error.contains("chmod go-w"), "{error}");
}

#[test]
fn a_directory_on_disk_is_refused() {
    let disk = not_tmpfs();
    let error = open(disk.path()).unwrap_err().to_string();
    assert!(error.contains("not tmpfs or ramfs"), "{error}");
    assert!(fs::read_dir(disk.path()).unwrap().next().is_none());
}

#[test]
fn a_planted_link_leads_nowhere() {
    let mut world = World::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir(world.dir().join("services/myorg")).unwrap();
    let url = world.home("uplink").parent().unwrap().to_owned();
    symlink(elsewhere.path(), &url).unwrap();
    let wanted = bindings(1, [deployment("d1", "uplink", &[("a", "1")])]);
    world.apply(&wanted);
    let error = world.reconciler().report().deployments[0]
        .error
        .clone()
        .unwrap();
    assert!(error.detail.contains("symbolic link"), "{}", error.detail);
    assert!(fs::read_dir(elsewhere.path()).unwrap().next().is_none());

    // Once it is gone, the same bindings bring the values.
    fs::remove_file(&url).unwrap();
    world.apply(&wanted);
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "1"));

    // As the services directory itself it stops the agent.
    world.apply(&bindings(2, []));
    world.stop();
    fs::remove_dir_all(world.dir().join("services")).unwrap();
    symlink(elsewhere.path(), world.dir().join("services")).unwrap();
    let error = world.try_open().unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
}

#[test]
fn a_runtime_directory_is_made_where_there_is_none() {
    let world = World::new();
    let dir = world.dir().join("not/there/yet");
    let reconciler = open(&dir).unwrap();
    assert!(
        reconciler.protection().contains("tmpfs"),
        "{}",
        reconciler.protection()
    );
    assert!(reconciler.memory_protection().starts_with("buffer: "));
    let mode = fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
}
