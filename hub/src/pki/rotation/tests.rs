use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::clock;
use crate::pki::Pki;

/// A data directory with a CA, and the exchange for another one at this stage.
fn at(stage: Stage) -> (tempfile::TempDir, Pki) {
    let dir = tempfile::tempdir().unwrap();
    let (pki, key) = Pki::create(TrustDomain::default()).unwrap();
    disk::replace(dir.path(), CA_KEY_FILE, key.as_bytes()).unwrap();
    let pem = pki.trust_bundle_pem().as_bytes();
    disk::replace(dir.path(), CA_CERTIFICATE_FILE, pem).unwrap();
    let before = BTreeSet::from(["aa".to_owned()]);
    let rotation = Rotation::begin(&TrustDomain::default(), clock::now(), before.clone()).unwrap();
    let rotation = rotation.at(stage, clock::now(), before);
    rotation.save(dir.path()).unwrap();
    (dir, pki)
}

fn load(dir: &Path) -> Pki {
    Pki::load(dir, TrustDomain::default()).unwrap()
}

#[test]
fn the_stage_says_which_ca_issues_and_both_are_trusted() {
    for (stage, old_issues) in [(Stage::Announced, true), (Stage::Switched, false)] {
        let (dir, old) = at(stage);
        let pki = load(dir.path());
        assert_eq!(pki.ca_fingerprint() == old.ca_fingerprint(), old_issues);
        assert!(pki.is_known(&old.ca_fingerprint()) && pki.is_known(&pki.ca_fingerprint()));
        assert_eq!(pki.ca_certificates().count(), 2);
        assert_eq!(
            pki.trust_bundle_pem().matches("BEGIN CERTIFICATE").count(),
            2
        );
        let servers = pki.issue_server(&["localhost".into()], std::time::Duration::from_secs(60));
        let servers = servers.unwrap();
        assert_ne!(servers[0].authority.as_ref(), servers[1].authority.as_ref());
        let rotation = Rotation::load(dir.path()).unwrap().unwrap();
        assert!(rotation.is_from_before("aa") && !rotation.is_from_before("bb"));
        let mode = fs::metadata(dir.path().join(ROTATION_FILE)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_kill_while_the_new_ca_takes_its_place_leaves_the_new_one() {
    for step in 0..=4 {
        let (dir, old) = at(Stage::Finishing);
        let path = |name: &str| dir.path().join(name);
        let rotation = Rotation::load(dir.path()).unwrap().unwrap();
        if step >= 1 {
            disk::overwrite(&path(CA_KEY_FILE)).unwrap();
        }
        if step == 2 {
            fs::write(path("ca.key.new"), "half").unwrap();
        }
        if step >= 3 {
            disk::replace(dir.path(), CA_KEY_FILE, rotation.key().as_bytes()).unwrap();
        }
        if step >= 4 {
            let pem = rotation.certificate().as_bytes();
            disk::replace(dir.path(), CA_CERTIFICATE_FILE, pem).unwrap();
        }
        let pki = load(dir.path());
        assert_ne!(pki.ca_fingerprint(), old.ca_fingerprint(), "step {step}");
        assert!(!pki.is_known(&old.ca_fingerprint()), "step {step}");
        assert_eq!(pki.trust_bundle_pem(), rotation.certificate());
        assert!(!path(ROTATION_FILE).exists() && !path("ca.key.new").exists());
        assert_eq!(load(dir.path()).ca_fingerprint(), pki.ca_fingerprint());
    }
}

#[test]
fn a_file_that_others_read_or_that_is_damaged_is_refused_and_not_quoted() {
    let (dir, _) = at(Stage::Announced);
    let path = dir.path().join(ROTATION_FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Rotation::load(dir.path()).is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    for cut in (0..text.len()).step_by(11) {
        fs::write(&path, &text[..cut]).unwrap();
        let error = Rotation::load(dir.path()).err().unwrap().to_string();
        assert!(error.ends_with("ca.rotation: it is malformed"), "{error}");
    }
}

/// With a key in them, they would be in every backup.
#[test]
fn what_a_step_that_was_killed_left_is_gone_at_the_next_start() {
    let (dir, _) = at(Stage::Announced);
    let left = ["ca.rotation.new", "ca.key.new", "ca.crt.new"].map(|name| dir.path().join(name));
    for path in &left {
        fs::write(path, "half a key").unwrap();
    }
    load(dir.path());
    assert!(left.iter().all(|path| !path.exists()));
    assert!(Rotation::load(dir.path()).unwrap().is_some());
}
