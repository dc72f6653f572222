//! File systems of machines: Debian below, the packages above it, and what one machine writes on top.
//! All but the first is memory, and seen by this process alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::operator::run;

/// The layers that machines share.
#[derive(Debug)]
pub(super) struct Layers {
    base: PathBuf,
    work: PathBuf,
    installed: PathBuf,
}

/// Gives the calling thread, and those it starts, mounts of their own: none of them is left when the
/// process ends, however it ends. Call it first.
///
/// # Panics
/// When that is not allowed.
pub fn isolate() {
    unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own; needs root");
    let none = None::<&str>;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, flags, none).expect("private mounts");
    let work = super::root_dir().join("work");
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(
        Some("tmpfs"),
        &work,
        Some("tmpfs"),
        flags,
        Some("mode=0700"),
    )
    .expect("a tmpfs");
}

impl Layers {
    pub(super) fn get() -> &'static Self {
        static LAYERS: OnceLock<Layers> = OnceLock::new();
        LAYERS.get_or_init(Self::install)
    }

    /// Where machines keep what is theirs.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// A file system on top of the shared ones; below `dir` is all that is written to it.
    pub(super) fn mount(&self, dir: &Path, installed: bool) -> PathBuf {
        let lower = if installed {
            format!("{}:{}", self.installed.display(), self.base.display())
        } else {
            self.base.display().to_string()
        };
        overlay(&lower, dir)
    }

    pub(super) fn unmount(&self, root: &Path, dir: &Path) {
        umount2(root, MntFlags::MNT_DETACH).ok();
        fs::remove_dir_all(dir).ok();
    }

    /// Installs the packages as on a machine that is not running: dpkg starts nothing.
    fn install() -> Self {
        let root = super::root_dir();
        let root = fs::canonicalize(&root).expect("the root directory");
        let (base, work) = (root.join("base"), root.join("work"));
        let dir = work.join("installed");
        let merged = overlay(&base.display().to_string(), &dir);
        for package in super::packages() {
            let name = package.file_name().expect("a name");
            fs::create_dir_all(merged.join("root/packages")).expect("a directory");
            fs::copy(&package, merged.join("root/packages").join(name)).expect("a copy");
        }
        let mut dpkg = Command::new("chroot");
        dpkg.arg(&merged)
            .args(["sh", "-ec", "dpkg --install /root/packages/*.deb"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8");
        let ended = run(&mut dpkg, b"");
        assert_eq!(ended.code, 0, "the packages do not install: {ended:?}");
        umount2(&merged, MntFlags::MNT_DETACH).expect("unmounted");
        Self {
            base,
            work,
            installed: dir.join("upper"),
        }
    }
}

fn overlay(lower: &str, dir: &Path) -> PathBuf {
    let (upper, scratch, merged) = (dir.join("upper"), dir.join("scratch"), dir.join("root"));
    for dir in [&upper, &scratch, &merged] {
        fs::create_dir_all(dir).expect("a directory");
    }
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={}",
        upper.display(),
        scratch.display()
    );
    let flags = MsFlags::empty();
    mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        flags,
        Some(options.as_str()),
    )
    .unwrap_or_else(|errno| panic!("an overlay at {}: {errno}", merged.display()));
    merged
}
