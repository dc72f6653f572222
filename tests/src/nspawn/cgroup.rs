//! A control group for each machine: two in one would end each other's processes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::wait::{self, DEADLINE};

/// A group in each hierarchy that systemd uses. Removed when dropped, once nothing runs in it.
#[derive(Debug)]
pub(super) struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// A new group below this process's own.
    pub(super) fn new(name: &str) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").expect("this process's groups");
        let dirs: Vec<_> = own
            .lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                Some(
                    mounted(controllers)?
                        .join(path.trim_start_matches('/'))
                        .join(name),
                )
            })
            .collect();
        for dir in &dirs {
            fs::create_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        assert!(!dirs.is_empty(), "no control groups are mounted");
        Self { dirs }
    }

    /// The shell's commands that put the shell into it.
    pub(super) fn enter(&self) -> String {
        let enter = |dir: &PathBuf| format!("echo $$ >'{}/cgroup.procs'; ", dir.display());
        self.dirs.iter().map(enter).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in self.dirs.iter().rev() {
            // Tells when nothing runs in it any more (cgroups(7)); what is left then is empty.
            wait::within(&dir.join("cgroup.events"), DEADLINE, &mut || remove(dir));
        }
    }
}

/// Where systemd's own hierarchies are mounted: the unified one, and the named one beside it.
fn mounted(controllers: &str) -> Option<PathBuf> {
    let candidates: &[&str] = match controllers {
        "" => &["/sys/fs/cgroup/unified", "/sys/fs/cgroup"],
        "name=systemd" => &["/sys/fs/cgroup/systemd"],
        _ => &[],
    };
    let found = candidates
        .iter()
        .find(|dir| Path::new(dir).join("cgroup.procs").is_file());
    found.map(PathBuf::from)
}

fn remove(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(dir).is_ok() || !dir.exists()
}
