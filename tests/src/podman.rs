//! A real podman with a storage of its own, so that tests neither meet nor leave anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::operator::{Ended, run};
use crate::{is_root, wait};

/// What is missing on this machine for real containers; none when they can be run.
#[must_use]
pub fn missing() -> Option<String> {
    if !is_root() {
        return Some("needs root".to_owned());
    }
    let parts = [
        ("podman", PODMAN),
        ("runc", RUNC),
        ("busybox-static", BUSYBOX),
    ];
    let missing: Vec<_> = parts
        .iter()
        .filter(|(_, places)| find(places).is_none())
        .map(|(part, _)| *part)
        .collect();
    (!missing.is_empty()).then(|| format!("needs {}", missing.join(", ")))
}

/// What is missing on this machine for [`Podman::import_tools`].
#[must_use]
pub fn missing_tools() -> Option<String> {
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|tool| find(&[**tool]).is_none())
        .map(|tool| tool.rsplit('/').next().unwrap_or(tool))
        .collect();
    (!missing.is_empty()).then(|| format!("needs {}", missing.join(", ")))
}

/// podman, its storage in a temporary place, and one image that holds a static busybox. Every
/// container is ended and removed when it is dropped.
#[derive(Debug)]
pub struct Podman {
    // Before the place: the process ends first.
    service: Option<Daemon>,
    place: TempDir,
}

impl Podman {
    /// A new storage with the image [`IMAGE`].
    ///
    /// # Panics
    /// When podman refuses.
    #[must_use]
    pub fn new() -> Self {
        let place = tempfile::Builder::new()
            .prefix("edge-secrets-podman-")
            .tempdir()
            .expect("a place");
        // A container's own user passes through here to its root.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(place.path(), open).expect("permissions");
        let podman = Self {
            service: None,
            place,
        };
        podman.make();
        podman
    }

    /// Serves the API, as `podman.socket` does, at [`socket`](Self::socket).
    pub fn serve(&mut self) {
        let mut command = self.command(&["system", "service", "--time=0"]);
        command.arg(format!("unix://{}", self.socket().display()));
        self.service = Some(Daemon::start(&mut command, &self.log()));
        wait::until(&self.socket(), "podman's API is served", || {
            UnixStream::connect(self.socket()).is_ok()
        });
    }

    /// Ends the API, not the containers.
    pub fn stop_serving(&mut self) {
        if let Some(service) = self.service.take() {
            service.stop();
        }
        fs::remove_file(self.socket()).ok();
    }

    /// The API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.place.path().join("podman.sock")
    }

    /// podman with these arguments.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(find(PODMAN).expect("podman"));
        for (option, name) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(option).arg(self.place.path().join(name));
        }
        // What works without systemd, without overlayfs and with hybrid cgroups too.
        command
            .args(["--runtime", "runc", "--storage-driver", "vfs"])
            .args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"])
            .args(args);
        command
    }

    /// Runs podman to its end.
    #[must_use]
    pub fn ended(&self, args: &[&str]) -> Ended {
        run(&mut self.command(args), b"")
    }

    /// Runs podman, which must succeed, and gives its standard output without the last newline.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.ended(args);
        assert_eq!(ended.code, 0, "podman {args:?}: {ended:?}");
        ended.stdout.trim_end_matches('\n').to_owned()
    }

    /// `podman run` with what every container needs here and these options, image and command.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        self.ended(&[&["run"], CONTAINER, args].concat())
    }

    /// Starts a container in the background.
    pub fn start(&self, name: &str, args: &[&str]) {
        self.ok(&[&["run", "--detach", "--name", name], CONTAINER, args].concat());
    }

    /// Runs a shell script in a running container.
    #[must_use]
    pub fn exec(&self, name: &str, script: &str) -> Ended {
        self.ended(&["exec", name, "sh", "-c", script])
    }

    /// A container's process on the host and when it started: another one when it was restarted.
    #[must_use]
    pub fn process(&self, name: &str) -> String {
        self.ok(&[
            "inspect",
            "--format",
            "{{.State.Pid}} {{.State.StartedAt}}",
            name,
        ])
    }

    /// What podman tells of a container.
    #[must_use]
    pub fn inspect(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&["inspect", name])).expect("JSON")
    }

    /// Everything that podman keeps on disk.
    #[must_use]
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    /// Makes [`TOOLS_IMAGE`]: the other image with this machine's curl and jq, and the libraries that
    /// they are linked with.
    ///
    /// # Panics
    /// When that cannot be made.
    pub fn import_tools(&self) {
        let rootfs = self.rootfs();
        for tool in TOOLS {
            let ended = run(Command::new("ldd").arg(tool), b"");
            assert_eq!(ended.code, 0, "ldd {tool}: {ended:?}");
            let libraries = ended.stdout.split_whitespace();
            let libraries = libraries.filter(|word| word.starts_with('/'));
            for file in libraries.chain([tool]) {
                let to = rootfs.join(file.trim_start_matches('/'));
                fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
                fs::copy(file, &to).expect("copied");
            }
        }
        self.import(TOOLS_IMAGE);
    }

    fn log(&self) -> PathBuf {
        self.place.path().join("service.log")
    }

    fn rootfs(&self) -> PathBuf {
        self.place.path().join("rootfs")
    }

    fn make(&self) {
        let rootfs = self.rootfs();
        for dir in ["bin", "tmp", "run/secrets", "open-horizon-secrets"] {
            fs::create_dir_all(rootfs.join(dir)).expect("a directory");
        }
        let busybox = rootfs.join("bin/busybox");
        fs::copy(find(BUSYBOX).expect("busybox"), &busybox).expect("busybox");
        for name in COMMANDS {
            symlink("busybox", rootfs.join("bin").join(name)).expect("a link");
        }
        // The first call on a machine makes what all storages share, and none may come to it half made.
        static FIRST: Once = Once::new();
        FIRST.call_once(|| drop(self.ended(&["info"])));
        self.import(IMAGE);
    }

    fn import(&self, image: &str) {
        let tar = self.place.path().join("image.tar");
        let mut pack = Command::new("tar");
        pack.arg("-C")
            .arg(self.rootfs())
            .arg("-cf")
            .arg(&tar)
            .arg(".");
        let ended = run(&mut pack, b"");
        assert_eq!(ended.code, 0, "tar: {ended:?}");
        self.ok(&["import", tar.to_str().expect("a plain path"), image]);
    }
}

impl Default for Podman {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.service = None;
        // Without this the containers' processes and mounts would stay.
        let ended = self.ended(&["rm", "--all", "--force", "--time", "0"]);
        if ended.code != 0 {
            eprintln!("podman rm: {ended:?}");
        }
    }
}

fn find(places: &[&str]) -> Option<PathBuf> {
    let mut places = places.iter().map(PathBuf::from);
    places.find(|place| place.is_file())
}

/// The image that every storage has.
pub const IMAGE: &str = "localhost/busybox:1";

/// What [`Podman::import_tools`] makes.
pub const TOOLS_IMAGE: &str = "localhost/tools:1";
const TOOLS: [&str; 2] = ["/usr/bin/curl", "/usr/bin/jq"];

/// What every container needs on a machine without a network and with few file descriptors.
const CONTAINER: &[&str] = &[
    "--network=none",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
];

const COMMANDS: [&str; 14] = [
    "sh", "cat", "ls", "stat", "id", "sleep", "touch", "mv", "readlink", "true", "env", "test",
    "head", "tail",
];
const PODMAN: &[&str] = &["/usr/bin/podman", "/usr/local/bin/podman"];
const RUNC: &[&str] = &["/usr/bin/runc", "/usr/sbin/runc", "/usr/local/sbin/runc"];
const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];
