//! From a change to the moment when a service can read it.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use edge_secrets_tests::DEADLINE;
use edge_secrets_tests::reader::{stamp, stamped};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::samples::Samples;
use crate::scene::{LEN, Scene};

#[derive(Default)]
pub(crate) struct Rotation {
    /// From the request handed to HTTP/2 to the value read.
    pub(crate) from_request: Samples,
    /// From the answer received to the value read; negative where it was readable before.
    pub(crate) from_answer: Samples,
    /// From the request to the answer: the change and its audit record are durable by then.
    pub(crate) answer: Samples,
}

/// When the next change comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as this one is readable, while the hub still writes down that it is applied.
    BackToBack,
    /// When the hub has written down that this one is applied: the case of the field.
    AtRest,
}

/// Rotates one secret, one change after the other.
pub(crate) fn measure(scene: &Scene, rotations: u64, pace: Pace) -> Rotation {
    let service = scene.services / 2;
    let name = scene.names[0];
    let reference = Scene::reference(service, name);
    let seen = watch(&scene.dir(service), name);
    let mut admin = scene.admin();
    let mut rotation = Rotation::default();
    for change in 1..=rotations + WARM_UP {
        // The operator's own sealing is not the way from the hub to the service.
        let body = admin.sealed(&reference, &[("value", &stamped(change, LEN))]);
        let path = admin.path(&format!("secrets/{reference}"));
        let sent = Instant::now();
        let answer = admin
            .client
            .json(http::Method::PUT, &path, &body)
            .expect("an answer");
        let answered = Instant::now();
        assert_eq!(answer.status, 200, "{answer}");
        let readable = loop {
            let (seen, at) = seen.recv_timeout(DEADLINE).expect("the change is seen");
            if seen == change {
                break at;
            }
        };
        if pace == Pace::AtRest {
            admin.await_rollout(&format!("s{service}"), "applied", |rollout| {
                rollout["applied"] == rollout["total"]
            });
        }
        if change > WARM_UP {
            rotation.from_request.add(readable - sent);
            rotation.answer.add(answered - sent);
            let micros = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
            let since = readable
                .checked_duration_since(answered)
                .map_or_else(|| -micros(answered - readable), micros);
            rotation.from_answer.add_micros(since);
        }
    }
    rotation
}

/// Tells of every change of a file with the moment after it was read.
pub(crate) fn watch(dir: &Path, name: &str) -> Receiver<(u64, Instant)> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).expect("inotify");
    inotify
        .add_watch(dir, AddWatchFlags::IN_MOVED_TO)
        .expect("a watch");
    let file = dir.join(name);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        loop {
            let Ok(_) = inotify.read_events() else { return };
            let Ok(content) = fs::read(&file) else {
                continue;
            };
            let at = Instant::now();
            let Ok(change) = stamp(&content, LEN) else {
                continue;
            };
            if sender.send((change, at)).is_err() {
                return;
            }
        }
    });
    receiver
}

const WARM_UP: u64 = 10;
