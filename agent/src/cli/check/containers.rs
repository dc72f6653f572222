//! The container engine, where a profile needs one.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;
use crate::consumers::profile::{Action, Profile, Workload};

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    if !patient.profiles().any(|profile| needs_engine(profile)) {
        return Vec::new();
    }
    vec![engine(patient)]
}

fn needs_engine(profile: &Profile) -> bool {
    let lives = profile.lifecycle.as_ref().map(|life| &life.workload);
    let acts = profile
        .on_change
        .as_ref()
        .map(|on_change| &on_change.action);
    matches!(lives, Some(Workload::Container(_)))
        || matches!(acts, Some(Action::SignalContainer(..)))
}

fn engine(patient: &Patient) -> Finding {
    let places: Vec<PathBuf> = match &patient.config.containers.socket {
        Some(socket) => vec![socket.clone()],
        None => USUAL.map(|place| patient.root.join(place)).to_vec(),
    };
    let mut fault = None;
    for place in &places {
        match UnixStream::connect(place) {
            Ok(_) => return Finding::ok(CONTAINERS, format!("{} answers", place.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => fault = Some(format!("{}: {error}", place.display())),
        }
    }
    let names: Vec<_> = places
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    Finding::failed(
        CONTAINERS,
        Exit::Other,
        match fault {
            Some(fault) => format!("the container engine cannot be asked: {fault}"),
            None => format!("there is no container engine at {}", names.join(" or ")),
        },
        "systemctl enable --now podman.socket (or docker.socket), or set containers.socket; until \
         then nothing changes for these profiles' services",
    )
}

const CONTAINERS: &str = "containers";
const USUAL: [&str; 2] = ["run/podman/podman.sock", "run/docker.sock"];

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::super::finding::Verdict;
    use super::super::patient::fabricated;
    use super::super::units::fabricated::profile;
    use super::*;
    use crate::consumers::profile::Lifecycle;

    #[test]
    fn an_engine_is_needed_by_who_names_a_container() {
        let mut profile = profile();
        assert!(!needs_engine(&profile));
        profile.lifecycle = Some(Lifecycle {
            workload: Workload::Container("uplink".parse().unwrap()),
            linger: Default::default(),
        });
        assert!(needs_engine(&profile));
    }

    #[test]
    fn the_engine_is_where_it_usually_is_or_where_it_is_said_to_be() {
        let (root, mut patient) = fabricated::patient();
        assert_eq!(engine(&patient).verdict, Verdict::Failed);
        patient.write("run/x", "");
        let _docker = UnixListener::bind(root.path().join("run/docker.sock")).unwrap();
        assert_eq!(engine(&patient).verdict, Verdict::Ok);
        patient.config.containers.socket = Some(root.path().join("other.sock"));
        assert_eq!(engine(&patient).verdict, Verdict::Failed);
    }
}
