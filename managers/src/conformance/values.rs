//! Values, versions, and what there is to know without them.

use edge_secrets_protocol::SecretVersion;

use super::{CANARY, World, describe, expect_no_value, value_of};
use crate::{Effect, Fault, Target};

pub(super) async fn run<W: World, F: AsyncFn() -> W>(make: &F) {
    what_is_described_can_be_read(&make().await).await;
    looking_gives_no_value_and_has_no_effect(&make().await).await;
    a_rotation_is_seen_and_ones_own_reads_are_not(&make().await).await;
    what_is_absent_is_absent(&make().await).await;
    what_was_removed_is_gone(&make().await).await;
    references_of_others_are_refused_without_a_call(&make().await).await;
}

async fn what_is_described_can_be_read(world: &impl World) {
    let (org, reference, manager) = (world.org(), world.pure(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    manager.health().await.expect("healthy");
    let described = manager.describe(target).await.expect("a description");
    assert_eq!(described.effect, Effect::Pure);
    assert!(world.kind().effects().contains(&described.effect));
    let version = described.version.expect("a version");
    let first = manager.read(target, &version).await.expect("a value");
    assert_eq!(value_of(&first), CANARY);
    let again = manager.read(target, &version).await.expect("a value again");
    assert!(
        first.expose() == again.expose(),
        "a pure read gives the same"
    );
    let versions = manager.versions(target).await.expect("versions");
    assert_eq!(versions.first().map(|v| &v.version), Some(&version));
}

async fn looking_gives_no_value_and_has_no_effect(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    let before = (world.values_given(), world.minted());
    let mut references = vec![world.pure(), world.absent()];
    references.extend(world.leased().map(|(reference, _)| reference));
    for reference in &references {
        let target = Target {
            org: &org,
            reference,
        };
        let shown = format!("{:?}", manager.describe(target).await);
        expect_no_value(&shown);
        expect_no_value(&format!("{:?}", manager.versions(target).await));
    }
    let targets: Vec<_> = references
        .iter()
        .map(|reference| Target {
            org: &org,
            reference,
        })
        .collect();
    let all = manager.describe_all(&targets).await;
    assert_eq!(all.len(), targets.len());
    for (one, target) in all.iter().zip(&targets) {
        assert_eq!(
            one,
            &manager.describe(*target).await,
            "{}",
            target.reference
        );
    }
    assert_eq!((world.values_given(), world.minted()), before);
    if let Some((reference, effect)) = world.leased() {
        let described = describe(world, &reference).await.expect("a description");
        assert_eq!(described.effect, effect);
        assert_eq!(described.version, None);
        assert!(world.kind().effects().contains(&effect));
    }
}

async fn a_rotation_is_seen_and_ones_own_reads_are_not(world: &impl World) {
    let (org, reference, manager) = (world.org(), world.pure(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let version = async || -> SecretVersion {
        let described = manager.describe(target).await.expect("a description");
        described.version.expect("a version")
    };
    let old = version().await;
    manager.read(target, &old).await.expect("a value");
    assert_eq!(version().await, old, "a read of ours is no change");
    world.rotate("canary-second").await;
    let new = version().await;
    assert_ne!(new, old);
    let value = manager.read(target, &new).await.expect("the new value");
    assert_eq!(value_of(&value), "canary-second");
    // The old one is either still the old one, or not to be had: never the new one under its name.
    match manager.read(target, &old).await {
        Ok(value) => assert_eq!(value_of(&value), CANARY),
        Err(error) => assert_eq!(error.fault, Fault::Superseded, "{error}"),
    }
}

async fn what_is_absent_is_absent(world: &impl World) {
    let (org, reference, manager) = (world.org(), world.absent(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let error = manager.describe(target).await.expect_err("nothing there");
    assert_eq!(error.fault, world.absence(), "{error}");
    let version = "1".parse().expect("a version");
    let error = manager.read(target, &version).await.err().expect("nothing");
    assert_eq!(error.fault, world.absence(), "{error}");
}

async fn what_was_removed_is_gone(world: &impl World) {
    let (org, reference, manager) = (world.org(), world.pure(), world.manager());
    let target = Target {
        org: &org,
        reference: &reference,
    };
    let described = manager.describe(target).await.expect("a description");
    let version = described.version.expect("a version");
    if !world.remove().await {
        return;
    }
    let gone = |fault: Fault| fault.is_absence() || fault == world.absence();
    let error = manager.describe(target).await.expect_err("it is gone");
    assert!(gone(error.fault), "{error}");
    let error = manager.read(target, &version).await.err().expect("gone");
    assert!(gone(error.fault), "{error}");
    expect_no_value(&format!("{error:?}"));
}

async fn references_of_others_are_refused_without_a_call(world: &impl World) {
    let (org, manager) = (world.org(), world.manager());
    for (text, word) in world.refused() {
        let reference = text.parse().expect("a reference");
        let target = Target {
            org: &org,
            reference: &reference,
        };
        let error = manager.place(target).expect_err(text);
        assert_eq!(error.fault, Fault::Invalid, "{text}: {error}");
        assert!(error.detail.contains(word), "{text}: {error}");
        assert_eq!(manager.describe(target).await.err(), Some(error), "{text}");
    }
    for reference in [world.pure(), world.absent()] {
        let target = Target {
            org: &org,
            reference: &reference,
        };
        manager.place(target).expect("a place");
    }
}
