//! A tmpfs of the agent's own. Run as root: `cargo test -p edge-secrets-agent -- --ignored`.

use std::path::{Path, PathBuf};

use edge_secrets_protocol::status::DeploymentState;
use nix::mount::{MntFlags, umount2};

use super::world::{World, bindings, deployment, json, not_tmpfs};
use crate::reconcile::{Reconciler, RuntimeError, RuntimeOptions};

/// Takes the mount and the directory away however the test ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
        // Its owner may have tried before, in vain.
        std::fs::remove_dir(&self.0).ok();
    }
}

fn mount(dir: &Path, size: u64) -> Result<Reconciler, RuntimeError> {
    Reconciler::open(&RuntimeOptions {
        dir: dir.to_owned(),
        mount: true,
        size,
        grace: super::world::GRACE,
    })
}

#[test]
#[ignore = "needs root: mounts a tmpfs"]
fn a_directory_on_disk_gets_a_tmpfs_of_its_own_once() {
    let disk = not_tmpfs();
    let _mounted = Mounted(disk.path().to_owned());
    let first = mount(disk.path(), 1 << 20).unwrap().protection();
    assert!(first.contains("tmpfs"), "{first}");
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let count = |mounts: &str| {
        mounts
            .lines()
            .filter(|line| line.contains(disk.path().to_str().unwrap()))
            .count()
    };
    let listed = mounts();
    assert_eq!(count(&listed), 1);
    for option in ["nosuid", "nodev", "noexec", "size=1024k"] {
        let line = listed
            .lines()
            .find(|line| line.contains(disk.path().to_str().unwrap()));
        assert!(
            line.unwrap().contains(option),
            "{option} is not in {line:?}"
        );
    }
    assert_eq!(mount(disk.path(), 1 << 20).unwrap().protection(), first);
    assert_eq!(count(&mounts()), 1);
}

#[test]
#[ignore = "needs root: mounts a tmpfs"]
fn a_full_tmpfs_fails_one_deployment_and_keeps_the_rest() {
    let disk = not_tmpfs();
    let _mounted = Mounted(disk.path().to_owned());
    // Sixteen pages: a file takes one, and so does a manifest.
    drop(mount(disk.path(), 64 * 1024).unwrap());
    let mut world = World::at(disk);
    let small = |version: &str| {
        deployment(
            "d1",
            "uplink",
            &[("a", version), ("b", version), ("c", version)],
        )
    };
    // More rotations than there is room for, with no time to wipe between them.
    for number in 1..20 {
        let version = number.to_string();
        world.apply(&bindings(number, [small(&version)]));
        assert_eq!(world.read("uplink", "c").unwrap(), json("c", &version));
    }
    let names: Vec<_> = (0..14).map(|n| format!("n{n}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    world.apply(&bindings(
        20,
        [small("20"), deployment("d2", "camera", &many)],
    ));
    let report = world.reconciler().report();
    assert_eq!(report.deployments[0].state, DeploymentState::Applied);
    assert_eq!(report.deployments[1].state, DeploymentState::Failed);
    let error = report.deployments[1].error.clone().unwrap();
    assert!(error.detail.contains("tmpfs is full"), "{}", error.detail);
    assert_eq!(
        world.generations("camera"),
        0,
        "the partial generation is wiped"
    );
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "20"));

    world.apply(&bindings(
        21,
        [small("21"), deployment("d2", "camera", &many[..2])],
    ));
    assert_eq!(world.read("camera", "n1").unwrap(), json("n1", "1"));
    assert_eq!(world.read("uplink", "a").unwrap(), json("a", "21"));
}
