//! What profiles name on this host: users, groups, commands.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Group, User};

use super::super::Exit;
use super::finding::Finding;
use super::patient::Patient;
use crate::consumers::profile::{Action, Principal, Profile};

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let (mut found, mut named) = (Vec::new(), 0);
    for profile in patient.profiles() {
        named += 1;
        found.extend(of(patient, profile));
    }
    if found.is_empty() && named > 0 {
        found.push(Finding::ok(HOST, "what the profiles name is there"));
    }
    found
}

fn of(patient: &Patient, profile: &Profile) -> Vec<Finding> {
    let file = profile.file.display();
    let failed = |what: String, advice: String| {
        Finding::failed(HOST, Exit::Usage, format!("{file}: {what}"), advice)
    };
    let mut found = Vec::new();
    let mut user = |principal: Option<&Principal>| {
        if let Some(Principal::Name(name)) = principal
            && matches!(User::from_name(name), Ok(None))
        {
            let what = format!("there is no user {name:?}");
            found.push(failed(
                what,
                format!("useradd --system {name}, or correct the name"),
            ));
        }
    };
    user(profile.shape.owner.as_ref());
    let action = profile
        .on_change
        .as_ref()
        .map(|on_change| &on_change.action);
    if let Some(Action::Command { user: runs_as, .. }) = action {
        user(runs_as.as_ref());
    }
    if let Some(Principal::Name(name)) = &profile.shape.group
        && matches!(Group::from_name(name), Ok(None))
    {
        let what = format!("there is no group {name:?}");
        found.push(failed(
            what,
            format!("groupadd --system {name}, or correct the name"),
        ));
    }
    if let Some(Action::Command { argv, .. }) = action
        && let Some(program) = argv.first()
        && let Some((what, advice)) = program_fault(&patient.path(Path::new(program)))
    {
        found.push(failed(format!("{program} {what}"), advice.to_owned()));
    }
    found
}

fn program_fault(path: &Path) -> Option<(&'static str, &'static str)> {
    let Ok(metadata) = fs::metadata(path) else {
        return Some(("is not there", "install it, or correct the path"));
    };
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Some((
            "cannot be executed",
            "chmod +x it, or name the interpreter first",
        ));
    }
    (metadata.mode() & 0o002 != 0).then_some((
        "can be changed by everybody, and the agent would run it",
        "chmod o-w it",
    ))
}

const HOST: &str = "host";

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::super::patient::fabricated;
    use super::super::units::fabricated::profile;
    use super::*;

    #[test]
    fn users_and_groups_that_are_not_there_fail() {
        let (_root, patient) = fabricated::patient();
        let mut profile = profile();
        assert_eq!(of(&patient, &profile), []);
        profile.shape.owner = Some(Principal::Name("root".into()));
        profile.shape.group = Some(Principal::Id(4_000_000));
        assert_eq!(of(&patient, &profile), []);
        profile.shape.owner = Some(Principal::Name("no-such-user-here".into()));
        profile.shape.group = Some(Principal::Name("no-such-group-here".into()));
        assert_eq!(of(&patient, &profile).len(), 2);
    }

    #[test]
    fn a_command_must_be_there_and_executable_and_not_everybodys() {
        let (_root, patient) = fabricated::patient();
        let profile = {
            let mut profile = profile();
            profile.on_change = Some(crate::consumers::profile::OnChange {
                action: Action::Command {
                    argv: vec!["/usr/bin/tell".into(), "it".into()],
                    user: None,
                },
                debounce: Default::default(),
                timeout: Default::default(),
            });
            profile
        };
        assert!(of(&patient, &profile)[0].what.contains("is not there"));
        patient.write("usr/bin/tell", "#!/bin/sh\n");
        let program = patient.root.join("usr/bin/tell");
        for (mode, fault) in [
            (0o644, Some("cannot be executed")),
            (0o757, Some("changed by everybody")),
            (0o755, None),
        ] {
            fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
            let found = of(&patient, &profile);
            assert_eq!(found.len(), usize::from(fault.is_some()), "{found:?}");
            assert!(
                found.iter().all(|f| f.what.contains(fault.unwrap())),
                "{found:?}"
            );
        }
    }
}
